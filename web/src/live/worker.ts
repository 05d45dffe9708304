// The worker holds the connection and adds up what comes, so that the page has only to draw.

import type { ToPage, ToWorker, Trouble, Watched } from "./messages";
import { EVERYBODY } from "./messages";
import type { Hello, Model, Stream, Token } from "./protocol";
import { parseMessage, parseTokens } from "./protocol";
import { overlap, Tally } from "./tally";

/** Bounds of what is kept. */
const MAX_TALLIES = 12; // of streams; the newest stay
const MAX_STREAMS = 200; // that are listed
const MAX_MESSAGE = 8 << 20; // bytes
const TAIL = 120; // characters
const TELL = 200; // ms between two lists of streams

const post = (message: ToPage, transfer: Transferable[] = []) => (self as unknown as Worker).postMessage(message, transfer);

let address = "";
let key = "";
let socket: WebSocket | null = null;
let session = "";
let last = 0; // the last frame that was read
let tries = 0;
let retry: ReturnType<typeof setTimeout> | undefined;
let model: Model | null = null;
let want = { events: false, stats: false };
let trouble: Trouble = { dropped: 0, broken: 0, resumed: 0, frames: 0 };

interface Kept {
  about: Watched;
  tally: Tally | null;
  /** Tokens in each of the last seconds, for the rate. */
  marks: { at: number; seen: number }[];
}
let streams = new Map<number, Kept>();
let everybody: Tally | null = null;
let waitingEvents: unknown[] = [];
let changed = false;

/** Opens the connection, and again whenever it ends. */
function open() {
  clearTimeout(retry);
  const url = address + "/roundhouse/v1/live" + (session ? `?session=${session}&seq=${last}` : "");
  const protocols = ["roundhouse.live.v1"];
  if (key) protocols.push("roundhouse.key." + [...new TextEncoder().encode(key)].map((b) => b.toString(16).padStart(2, "0")).join(""));
  const mine = (socket = new WebSocket(url, protocols));
  mine.binaryType = "arraybuffer";
  let opened = false;
  mine.onopen = () => {
    opened = true;
    subscribe();
  };
  mine.onmessage = (e) => {
    if (mine === socket) read(e.data as string | ArrayBuffer);
  };
  mine.onclose = () => {
    if (mine !== socket) return;
    socket = null;
    tries = opened ? 0 : tries + 1;
    post({ kind: "status", status: "lost", model, refused: !opened });
    retry = setTimeout(open, Math.min(250 * 2 ** tries, 5000));
  };
}

function subscribe() {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ op: "subscribe", ...want }));
}

/** Reads one message. What cannot be read is counted, and changes nothing. */
function read(data: string | ArrayBuffer) {
  try {
    if (typeof data !== "string") {
      if (data.byteLength > MAX_MESSAGE) throw new Error("a message of " + data.byteLength + " bytes");
      for (const token of parseTokens(data)) take(token);
      return;
    }
    if (data.length > MAX_MESSAGE) throw new Error("a message of " + data.length + " characters");
    const message = parseMessage(data);
    switch (message.op) {
      case "hello":
        hello(message);
        break;
      case "stream":
        note(message);
        break;
      case "event":
        waitingEvents.push(message.event);
        if (waitingEvents.length > 500) waitingEvents.shift();
        break;
      case "stats":
        post({ kind: "stats", stats: message });
        break;
      case "dropped":
        trouble.dropped += message.frames;
        changed = true;
        break;
      case "steered":
        post({ kind: "answer", id: message.id, from: message.from, error: "" });
        break;
      case "paced":
        post({ kind: "answer", id: message.id, from: 0, error: "" });
        break;
      case "error":
        post({ kind: "answer", id: message.id, from: 0, error: message.message });
        break;
    }
  } catch {
    trouble.broken++;
    changed = true;
  }
}

function hello(message: Hello) {
  if (message.resumed) trouble.resumed++;
  if (!message.resumed) {
    // Another server, or one that has forgotten this page: its handles begin anew.
    streams = new Map();
    everybody = null;
    last = 0;
  }
  session = message.session;
  const same = model && message.model && model.layers === message.model.layers && model.experts === message.model.experts;
  model = message.model && bounded(message.model) ? message.model : null;
  if (!same) everybody = null;
  if (model && !everybody) everybody = new Tally(model.layers, model.experts, model.top_k);
  for (const stream of message.streams) note(stream);
  changed = true;
  post({ kind: "status", status: "live", model, refused: false });
  clearTimeout(retry);
  if (!model) retry = setTimeout(() => socket?.close(), 1000); // it loads: ask again
}

/** Whether a model is one that can be drawn. */
const bounded = (m: Model) => [m.layers, m.experts, m.top_k].every((n) => Number.isInteger(n) && n > 0) && m.layers * m.experts <= 1 << 20 && m.top_k <= 1024;

/** Takes what is said of a stream. */
function note(stream: Stream) {
  const kept = streams.get(stream.handle);
  if (kept) Object.assign(kept.about, stream);
  else {
    streams.set(stream.handle, { about: { ...stream, seen: 0, rate: 0, tail: "" }, tally: null, marks: [] });
    forget();
  }
  changed = true;
}

/** Lets go of what was kept of the oldest streams. */
function forget() {
  const old = [...streams.keys()].sort((a, b) => a - b);
  for (const handle of old) {
    if (streams.size <= MAX_STREAMS) break;
    streams.delete(handle);
  }
  const tallied = old.filter((handle) => streams.get(handle)?.tally);
  // Those that run, and those that are looked at, go last.
  tallied.sort((a, b) => weight(a) - weight(b) || a - b);
  for (const handle of tallied.slice(0, Math.max(0, tallied.length - MAX_TALLIES))) streams.get(handle)!.tally = null;
}

let looked = new Set<number>();
const weight = (handle: number) => (looked.has(handle) ? 2 : 0) + (streams.get(handle)?.about.state === "running" ? 1 : 0);

/** Adds a token up. */
function take(token: Token) {
  last = Math.max(last, token.seq);
  trouble.frames++;
  changed = true;
  const kept = streams.get(token.handle);
  if (!kept || !model) return;
  kept.about.tail = (kept.about.tail + token.text).slice(-TAIL);
  kept.about.completion_tokens = Math.max(kept.about.completion_tokens, token.position - kept.about.prompt_tokens + 1);
  kept.about.seen++;
  if (!token.routed) return;
  if (!kept.tally) {
    kept.tally = new Tally(model.layers, model.experts, model.top_k);
    forget();
  }
  kept.tally?.add(token);
  everybody?.add(token);
}

const tallyOf = (handle: number) => (handle === EVERYBODY ? everybody : (streams.get(handle)?.tally ?? null));

/** Tells the page of streams and events, when there is something to tell. */
setInterval(() => {
  if (waitingEvents.length > 0) {
    post({ kind: "events", events: waitingEvents });
    waitingEvents = [];
  }
  const now = performance.now();
  for (const { about, marks } of streams.values()) {
    marks.push({ at: now, seen: about.seen });
    while (marks.length > 1 && marks[0]!.at < now - 2000) marks.shift();
    const first = marks[0]!;
    const rate = now > first.at && about.state === "running" ? ((about.seen - first.seen) * 1000) / (now - first.at) : 0;
    if (rate !== about.rate) changed = true;
    about.rate = rate;
  }
  if (!changed) return;
  changed = false;
  const list = [...streams.values()].map((one) => one.about).sort((a, b) => b.handle - a.handle);
  post({ kind: "streams", streams: list, trouble });
}, TELL);

self.onmessage = (e: MessageEvent<ToWorker>) => {
  const m = e.data;
  switch (m.kind) {
    case "open": {
      if (key !== m.key || address !== m.url) session = "";
      [address, key, tries] = [m.url, m.key, 0];
      const before = socket;
      socket = null;
      before?.close();
      open();
      break;
    }
    case "subscribe":
      want = { events: m.events, stats: m.stats };
      subscribe();
      break;
    case "command":
      if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ ...m.command, id: m.id }));
      else post({ kind: "answer", id: m.id, from: 0, error: "there is no connection to the server" });
      break;
    case "draw": {
      looked = new Set(m.views.map((view) => view.handle));
      const pictures = [];
      for (const view of m.views) {
        const tally = tallyOf(view.handle);
        if (!tally) continue;
        const size = tally.layers * tally.experts;
        const values = m.spare.find((one) => one.length === size) ?? new Float32Array(size);
        m.spare = m.spare.filter((one) => one !== values);
        const n = Math.max(0, tally.kept - 1 - (view.mode === "token" ? view.back : 0));
        tally.picture(view.mode, n, values);
        pictures.push({ handle: view.handle, values, tokens: tally.tokens, kept: tally.kept, ...tally.token(n) });
      }
      post({ kind: "drawn", pictures }, pictures.map((one) => one.values.buffer));
      break;
    }
    case "detail": {
      const [tally, other] = [tallyOf(m.handle), tallyOf(m.beside)];
      const inside = tally && m.layer >= 0 && m.layer < tally.layers && m.expert >= 0 && m.expert < tally.experts;
      const both = m.beside !== EVERYBODY && tally && other;
      post({ kind: "detail", detail: inside ? tally.detail(m.layer, m.expert) : null, overlap: both ? overlap(tally, other) : null });
      break;
    }
    case "export": {
      const tally = tallyOf(m.handle);
      post({ kind: "export", id: m.id, counts: tally?.counts ?? new Uint32Array(0), sums: tally?.sums ?? new Float64Array(0), tokens: tally?.tokens ?? 0 });
    }
  }
};
