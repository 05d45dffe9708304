// What the page and its worker tell each other.

import type { Model, Stats, Stream } from "./protocol";
import type { Detail, Mode } from "./tally";

export type Status = "connecting" | "live" | "lost";

/** A stream as the pages have it. */
export interface Watched extends Stream {
  /** Tokens that were seen of it, with routing. */
  seen: number;
  /** A second, over the last two. */
  rate: number;
  /** The end of its text. */
  tail: string;
}

/** What went wrong, counted. */
export interface Trouble {
  /** Frames that the server has left out because this page was slow. */
  dropped: number;
  /** Messages that could not be read. */
  broken: number;
  /** Times that the connection was taken up again without a loss. */
  resumed: number;
  /** Frames of tokens that were read. */
  frames: number;
}

/** One map to be drawn. */
export interface View {
  handle: number;
  mode: Mode;
  /** Of mode "token": which one, from the newest, 0, backwards. */
  back: number;
}

/** What is drawn. */
export interface Picture {
  handle: number;
  /** [layers, experts] */
  values: Float32Array;
  tokens: number;
  kept: number;
  /** The token of mode "token", or the newest. */
  position: number;
  text: string;
}

/** Handle of all streams together. */
export const EVERYBODY = 0;

export type ToWorker =
  | { kind: "open"; url: string; key: string }
  | { kind: "subscribe"; events: boolean; stats: boolean }
  | { kind: "command"; id: number; command: object }
  | { kind: "draw"; views: View[]; spare: Float32Array[] }
  | { kind: "detail"; handle: number; layer: number; expert: number; beside: number }
  | { kind: "export"; id: number; handle: number };

export type ToPage =
  | { kind: "status"; status: Status; model: Model | null; refused: boolean }
  | { kind: "streams"; streams: Watched[]; trouble: Trouble }
  | { kind: "stats"; stats: Stats }
  | { kind: "events"; events: unknown[] }
  | { kind: "answer"; id: number; from: number; error: string }
  | { kind: "drawn"; pictures: Picture[] }
  | { kind: "detail"; detail: Detail | null; overlap: Float32Array | null }
  | { kind: "export"; id: number; counts: Uint32Array; sums: Float64Array; tokens: number };
