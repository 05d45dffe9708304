// The page's side of the live connection: signals that follow it, and commands.

import { computed, signal } from "@preact/signals";
import { ask } from "../api";
import type { Picture, Status, ToPage, ToWorker, Trouble, View, Watched } from "./messages";
import type { Model, Stats } from "./protocol";
import type { Detail } from "./tally";

export const status = signal<Status>("connecting");
export const model = signal<Model | null>(null);
export const trouble = signal<Trouble>({ dropped: 0, broken: 0, resumed: 0, frames: 0 });

/** The newest first. */
export const streams = signal<Watched[]>([]);

/** Those of the last two minutes, the newest last. */
export const stats = signal<Stats[]>([]);
const KEPT_STATS = 240;

/** One event of the server. */
export interface ServerEvent {
  seq: number;
  time: string;
  kind: string;
  request: string;
  data: unknown;
}

/** The newest first. */
export const events = signal<ServerEvent[]>([]);
const KEPT_EVENTS = 300;

export const running = computed(() => streams.value.filter((one) => one.state === "running"));

/** What was last said of the expert that is looked at, and of the overlap of two streams. */
export const detail = signal<Detail | null>(null);
export const overlap = signal<Float32Array | null>(null);

const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name: "live" });
const tell = (message: ToWorker, transfer: Transferable[] = []) => worker.postMessage(message, transfer);

/** Connects to the server that the page is from. */
export function connect(key: string) {
  tell({ kind: "open", url: location.origin.replace(/^http/, "ws"), key });
}

/** Says what is wanted beside tokens. */
export const subscribe = (want: { events: boolean; stats: boolean }) => tell({ kind: "subscribe", ...want });

/** Reads an event: what is missing, or of another form, is empty. */
function event(what: unknown): ServerEvent {
  const of = (typeof what === "object" && what !== null ? what : {}) as { [name: string]: unknown };
  const text = (v: unknown) => (typeof v === "string" ? v : "");
  return { seq: typeof of["seq"] === "number" ? of["seq"] : 0, time: text(of["time"]), kind: text(of["kind"]), request: text(of["request"]), data: of["data"] ?? null };
}

let asked = 0;
const waiting = new Map<number, { resolve: (from: number) => void; reject: (error: Error) => void }>();

function command(what: object): Promise<number> {
  return new Promise((resolve, reject) => {
    waiting.set(++asked, { resolve, reject });
    tell({ kind: "command", id: asked, command: what });
  });
}

/** Steers a stream; resolves to the position of the first row that it is in force for. */
export const steer = (handle: number, how: unknown) => command({ op: "steer", handle, steer: how });

/** Changes how many tokens a second a stream makes: 0 to stand still, null for all it can. */
export const pace = (handle: number, perSecond: number | null) => command({ op: "pace", handle, per_second: perSecond });

const exports = new Map<number, (data: { counts: Uint32Array; sums: Float64Array; tokens: number }) => void>();

/** All that was counted of a stream. */
export function counted(handle: number): Promise<{ counts: Uint32Array; sums: Float64Array; tokens: number }> {
  return new Promise((resolve) => {
    exports.set(++asked, resolve);
    tell({ kind: "export", id: asked, handle });
  });
}

/** Asks for what is known of an expert; the answer comes in detail and overlap. */
export const look = (handle: number, layer: number, expert: number, beside: number) => tell({ kind: "detail", handle, layer, expert, beside });

// One request for pictures is under way at a time: the page draws what the eye can see, and
// the worker never has a queue of them.
let spare: Float32Array[] = [];
let drawing: ((pictures: Picture[]) => void) | null = null;

/** Asks for pictures; null while the last ones are still to come. */
export function draw(views: View[]): Promise<Picture[]> | null {
  if (drawing) return null;
  return new Promise((resolve) => {
    drawing = resolve;
    tell({ kind: "draw", views, spare }, spare.map((one) => one.buffer));
    spare = [];
  });
}

/** Gives the memory of a picture back. */
export function done(picture: Picture) {
  if (spare.length < 4) spare.push(picture.values);
}

worker.onmessage = (e: MessageEvent<ToPage>) => {
  const m = e.data;
  switch (m.kind) {
    case "status":
      status.value = m.status;
      model.value = m.model;
      if (m.refused) void knock();
      if (m.status === "lost") {
        for (const one of waiting.values()) one.reject(new Error("the connection to the server was lost"));
        waiting.clear();
      }
      break;
    case "streams":
      streams.value = m.streams;
      trouble.value = m.trouble;
      break;
    case "stats":
      stats.value = [...stats.value.slice(-KEPT_STATS + 1), m.stats];
      break;
    case "events":
      events.value = [...m.events.map(event).reverse(), ...events.value].slice(0, KEPT_EVENTS);
      break;
    case "answer": {
      const one = waiting.get(m.id);
      waiting.delete(m.id);
      m.error ? one?.reject(new Error(m.error)) : one?.resolve(m.from);
      break;
    }
    case "drawn":
      drawing?.(m.pictures);
      drawing = null;
      break;
    case "detail":
      detail.value = m.detail;
      overlap.value = m.overlap;
      break;
    case "export":
      exports.get(m.id)?.(m);
      exports.delete(m.id);
  }
};

/** Finds out why a WebSocket was refused, which a browser does not say. */
async function knock() {
  await ask("/v1/models").catch(() => {}); // a 401 locks the page
}
