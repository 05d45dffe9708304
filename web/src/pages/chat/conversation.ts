// A conversation: what was said, and what is known of every token of an answer.

import { signal } from "@preact/signals";
import { ask, events, get } from "../../api";
import { model } from "../../live/live";
import { carried, isEmpty } from "../../steering";
import { roundhouse, sampling } from "./settings";

/** What a hook did to a token. */
export interface Change {
  hook: string;
  what: string;
  /** The token that would have been there without it, where that is known. */
  instead?: number;
}

/** What is known of a token. */
export interface Told {
  id: number;
  text: string;
  logprob: number;
  /** Likeliest first. */
  top: { id: number; text: string; logprob: number }[];
  forced: boolean;
  changes: Change[];
}

/** A piece of text with the tokens that it is made of: one, but where a character needs more. */
export interface Piece {
  text: string;
  tokens: Told[];
}

/** Pieces come in blocks: what is complete is not drawn again. */
const BLOCK = 64;

export interface Turn {
  id: number;
  role: "user" | "assistant";
  /** Of the person. */
  text: string;
  /** Of the model. */
  answer: Piece[][];
  thought: Piece[][];
  state: "running" | "done" | "stopped" | "failed";
  /** Why it failed, or ended. */
  reason: string;
  request: string;
  tokens: number;
  began: number;
  took: number;
  seed: string;
  /** What hooks cost and did. */
  hooks: { name: string; calls: number; us: number; last_fault?: string; off?: boolean }[];
  degraded: number;
}

export const turns = signal<Turn[]>([]);
/** Changes whenever something is to be drawn anew. */
export const version = signal(0);

let ids = 0;
let running: AbortController | null = null;
let waiting = 0;

/** Draws at the next frame, however many tokens have come. */
function changed() {
  if (waiting === 0) {
    waiting = requestAnimationFrame(() => {
      waiting = 0;
      version.value++;
    });
  }
}

const blank = (role: Turn["role"]): Turn => ({ id: ++ids, role, text: "", answer: [], thought: [], state: "done", reason: "", request: "", tokens: 0, began: 0, took: 0, seed: "", hooks: [], degraded: 0 });

export const busy = () => turns.value.some((one) => one.state === "running");

/** The text of blocks. */
export const textOf = (blocks: Piece[][]) => blocks.map((block) => block.map((piece) => piece.text).join("")).join("");

/** Ends the answer that is being made; what there is stays. */
export function stop() {
  running?.abort();
}

/** Begins anew. */
export function clear() {
  stop();
  turns.value = [];
}

/** Says something, in the place of a turn and what follows it, or behind all. */
export function say(text: string, instead?: number) {
  if (text.trim() === "" || busy()) return;
  const at = instead === undefined ? -1 : turns.value.findIndex((one) => one.id === instead);
  turns.value = [...(at < 0 ? turns.value : turns.value.slice(0, at)), { ...blank("user"), text }];
  void answer();
}

/** Has an answer made again. */
export function again(id: number) {
  if (busy()) return;
  const at = turns.value.findIndex((one) => one.id === id);
  if (at < 1) return;
  turns.value = turns.value.slice(0, at);
  void answer();
}

const randomID = () => "page-" + Array.from(crypto.getRandomValues(new Uint8Array(6)), (b) => b.toString(16).padStart(2, "0")).join("");

/** Has the model answer. */
async function answer() {
  const turn: Turn = { ...blank("assistant"), state: "running", request: randomID(), began: performance.now() };
  const before = turns.value;
  turns.value = [...before, turn];
  const stopping = (running = new AbortController());
  try {
    const name = model.value?.name ?? (await firstModel());
    const messages = before.map((one) => ({ role: one.role, content: one.role === "user" ? one.text : textOf(one.answer) }));
    const { system, fields } = sampling();
    if (system) messages.unshift({ role: "system" as Turn["role"], content: system });
    const steer = isEmpty(carried.value) ? {} : { steer: carried.value };
    const body = {
      model: name,
      messages,
      ...fields,
      stream: true,
      logprobs: true,
      top_logprobs: TOP,
      roundhouse: { ...roundhouse(), ...steer, return: ["hooks", "candidates"], candidates: TOP },
    };
    const reply = await ask("/v1/chat/completions", { body, signal: stopping.signal, id: turn.request });
    for await (const chunk of events(reply)) take(turn, chunk as Chunk);
    turn.state = "done";
  } catch (e) {
    turn.state = stopping.signal.aborted ? "stopped" : "failed";
    turn.reason = stopping.signal.aborted ? "stopped" : e instanceof TypeError ? "The server cannot be reached. Is it running?" : (e as Error).message;
  }
  turn.took = performance.now() - turn.began;
  if (running === stopping) running = null;
  turns.value = [...turns.value];
  changed();
}

/** Candidates that are asked for of each token. */
const TOP = 8;

async function firstModel(): Promise<string> {
  const first = (await get<{ data: { id: string }[] }>("/v1/models")).data[0];
  if (!first) throw new Error("The server has no model yet.");
  return first.id;
}

interface Chunk {
  error?: { message: string };
  choices?: {
    delta?: { content?: string; reasoning_content?: string };
    logprobs?: { content?: { token: string; logprob: number; bytes: number[] | null; top_logprobs?: { token: string; logprob: number }[] }[] } | null;
    finish_reason?: string | null;
    roundhouse?: { tokens?: { id: number; forced?: boolean; changes?: Change[]; candidates?: [number, number][] }[] };
  }[];
  roundhouse?: { seed?: number; hooks?: Turn["hooks"]; degraded_tokens?: number; stop_hook?: string };
}

/** Takes one chunk of an answer. */
export function take(turn: Turn, chunk: Chunk) {
  if (chunk.error) throw new Error(String(chunk.error.message));
  const extra = chunk.roundhouse;
  if (extra?.seed !== undefined) turn.seed = String(extra.seed);
  if (extra?.hooks) turn.hooks = extra.hooks;
  if (extra?.degraded_tokens) turn.degraded = extra.degraded_tokens;
  const choice = chunk.choices?.[0];
  if (!choice) return;
  if (choice.finish_reason) turn.reason = extra?.stop_hook ? "a script: " + extra.stop_hook : choice.finish_reason;
  const data = choice.roundhouse?.tokens ?? [];
  const tokens: Told[] = (choice.logprobs?.content ?? []).map((one, n) => {
    const of = data[n];
    const ids = of?.candidates ?? [];
    return {
      id: of?.id ?? -1,
      text: one.token,
      logprob: one.logprob,
      top: (one.top_logprobs ?? []).map((t, k) => ({ id: ids[k]?.[0] ?? -1, text: t.token, logprob: t.logprob })),
      forced: of?.forced ?? false,
      changes: of?.changes ?? [],
    };
  });
  turn.tokens += tokens.length;
  const thought = choice.delta?.reasoning_content ?? "";
  const text = choice.delta?.content ?? "";
  if (thought) append(turn.thought, thought, text ? [] : tokens);
  if (text || (tokens.length > 0 && !thought)) append(turn.answer, text, tokens);
  changed();
}

/** Adds a text to blocks, a piece for each token where the tokens spell it. */
function append(blocks: Piece[][], text: string, tokens: Told[]) {
  const spelled = tokens.length > 1 && tokens.map((one) => one.text).join("") === text;
  const pieces = spelled ? tokens.map((one) => ({ text: one.text, tokens: [one] })) : [{ text, tokens }];
  for (const piece of pieces) {
    const last = blocks[blocks.length - 1];
    if (last && last.length < BLOCK) last.push(piece);
    else blocks.push([piece]);
  }
}
