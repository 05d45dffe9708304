// What is kept of a stream's routing: who was chosen, how often, by which tokens.

import type { Token } from "./protocol";

/** What a map shows: recent tokens, one token, or all of them. */
export type Mode = "recent" | "token" | "all";

/** The recent tokens: after so many, a token counts half as much. */
export const HALF_LIFE = 16;

/** Tokens whose routing is kept of a stream. */
export const KEPT = 2048;

const NONE = 0xffff;
const KEEP = 0.5 ** (1 / HALF_LIFE);

/** Weights are kept in 16 bits, of 0 to 4: what scaling can make of them, to 0.00006. */
const WEIGHT = 0xffff / 4;

export class Tally {
  /** [layers, experts]: tokens that chose the expert. */
  readonly counts: Uint32Array;
  /** [layers, experts]: their weights together. */
  readonly sums: Float64Array;
  /** Tokens with routing. */
  tokens = 0;
  /** Choices in each layer: tokens times experts a token. */
  readonly choices: Float64Array;

  // The recent share of an expert is heat * unit. One token makes unit smaller in the place of
  // all 24,576 experts.
  private readonly heat: Float64Array;
  private unit = 1;

  // A ring of tokens: [KEPT, layers, k] of ids and weights.
  private k: number;
  private room = 0;
  private ids = new Uint16Array(0);
  private weights = new Uint16Array(0);
  private positions = new Uint32Array(0);
  private texts: string[] = [];

  constructor(
    readonly layers: number,
    readonly experts: number,
    k: number,
  ) {
    this.k = Math.max(1, k);
    this.counts = new Uint32Array(layers * experts);
    this.sums = new Float64Array(layers * experts);
    this.heat = new Float64Array(layers * experts);
    this.choices = new Float64Array(layers);
  }

  /** Tokens that are kept. */
  get kept() {
    return Math.min(this.tokens, KEPT);
  }

  add(token: Token) {
    this.makeRoom(token.k);
    const { layers, experts, k } = this;
    const slot = this.tokens % KEPT;
    const base = slot * layers * k;
    this.ids.fill(NONE, base, base + layers * k);
    this.unit *= KEEP;
    if (this.unit < 1e-200) this.rescale();
    const fresh = (1 - KEEP) / this.unit;
    for (let n = 0; n < token.layers.length; n++) {
      const layer = token.layers[n]!;
      if (layer >= layers) continue;
      for (let j = 0; j < token.k; j++) {
        const expert = token.ids[n * token.k + j]!;
        if (expert >= experts) continue; // none was chosen
        const weight = token.weights[n * token.k + j]!;
        const at = layer * experts + expert;
        this.counts[at]!++;
        this.sums[at]! += weight;
        this.heat[at]! += fresh;
        this.choices[layer]!++;
        this.ids[base + layer * k + j] = expert;
        this.weights[base + layer * k + j] = Math.round(Math.min(Math.max(weight, 0), 4) * WEIGHT);
      }
    }
    this.positions[slot] = token.position;
    this.texts[slot] = token.text;
    this.tokens++;
  }

  private rescale() {
    for (let n = 0; n < this.heat.length; n++) this.heat[n]! *= this.unit;
    this.unit = 1;
  }

  /** Makes room for one token more, of k experts a layer. */
  private makeRoom(k: number) {
    const room = this.tokens < this.room || this.room === KEPT ? this.room : Math.min(Math.max(128, this.room * 2), KEPT);
    if (room === this.room && k <= this.k) return;
    const wide = Math.max(k, this.k);
    const ids = new Uint16Array(room * this.layers * wide).fill(NONE);
    const weights = new Uint16Array(ids.length);
    for (let row = 0; row < this.room * this.layers; row++) {
      ids.set(this.ids.subarray(row * this.k, (row + 1) * this.k), row * wide);
      weights.set(this.weights.subarray(row * this.k, (row + 1) * this.k), row * wide);
    }
    const positions = new Uint32Array(room);
    positions.set(this.positions);
    Object.assign(this, { ids, weights, positions, room, k: wide });
  }

  /** The slot of a kept token, the oldest is 0. */
  private slot(n: number) {
    return (this.tokens - this.kept + n) % KEPT;
  }

  /** Position and text of a kept token. */
  token(n: number): { position: number; text: string } {
    const slot = this.slot(n);
    return { position: this.positions[slot] ?? 0, text: this.texts[slot] ?? "" };
  }

  /** Fills a picture: shares of tokens from 0 to 1; of one token, weights. */
  picture(mode: Mode, n: number, out: Float32Array) {
    switch (mode) {
      case "recent":
        {
          // A stream that has just begun has no more than its few tokens: they are all of it.
          const unit = this.tokens > 0 ? this.unit / (1 - KEEP ** this.tokens) : 0;
          for (let at = 0; at < out.length; at++) out[at] = this.heat[at]! * unit;
        }
        break;
      case "all":
        for (let at = 0; at < out.length; at++) out[at] = this.tokens > 0 ? this.counts[at]! / this.tokens : 0;
        break;
      case "token": {
        out.fill(0);
        if (this.kept === 0) break;
        const base = this.slot(n) * this.layers * this.k;
        for (let j = 0; j < this.layers * this.k; j++) {
          const expert = this.ids[base + j]!;
          if (expert !== NONE) out[Math.floor(j / this.k) * this.experts + expert] = this.weights[base + j]! / WEIGHT;
        }
      }
    }
  }

  /** What is known of one expert. */
  detail(layer: number, expert: number): Detail {
    const { kept, k } = this;
    const at = layer * this.experts + expert;
    const positions = new Uint32Array(kept);
    const series = new Float32Array(kept);
    const words = new Map<string, Word>();
    const beside = new Uint32Array(this.experts);
    const chosen = new Uint32Array(this.experts);
    let times = 0;
    for (let n = 0; n < kept; n++) {
      const slot = this.slot(n);
      const base = (slot * this.layers + layer) * k;
      positions[n] = this.positions[slot]!;
      let weight = -1;
      for (let j = 0; j < k; j++) {
        const id = this.ids[base + j]!;
        if (id === NONE) continue;
        chosen[id]!++;
        if (id === expert) weight = this.weights[base + j]! / WEIGHT;
      }
      if (weight < 0) continue;
      times++;
      series[n] = weight;
      for (let j = 0; j < k; j++) {
        const id = this.ids[base + j]!;
        if (id !== NONE && id !== expert) beside[id]!++;
      }
      const text = this.texts[slot]!;
      const word = words.get(text) ?? { text, times: 0, weight: 0, last: 0 };
      word.times++;
      word.weight += weight;
      word.last = positions[n]!;
      words.set(text, word);
    }
    const together: Together[] = [];
    beside.forEach((both, id) => {
      if (both > 0) together.push({ expert: id, times: both, lift: (both * kept) / (times * chosen[id]!) });
    });
    return {
      layer,
      expert,
      tokens: this.tokens,
      count: this.counts[at] ?? 0,
      weight: this.counts[at] ? this.sums[at]! / this.counts[at]! : 0,
      kept,
      times,
      positions,
      series,
      words: [...words.values()].sort((a, b) => b.times - a.times || b.last - a.last).slice(0, 24),
      together: together.sort((a, b) => b.times - a.times || a.expert - b.expert).slice(0, 8),
    };
  }
}

/** What is known of one expert of a stream. */
export interface Detail {
  layer: number;
  expert: number;
  /** Of the stream. */
  tokens: number;
  /** Tokens that chose it, of all. */
  count: number;
  /** Their mean weight. */
  weight: number;
  /** Tokens that the rest is about: the last ones. */
  kept: number;
  /** Of them, that chose it. */
  times: number;
  positions: Uint32Array;
  /** Its weight at each; 0 where it was not chosen. */
  series: Float32Array;
  words: Word[];
  together: Together[];
}

/** A text of tokens that chose an expert. Their weights are added up. */
export interface Word {
  text: string;
  times: number;
  weight: number;
  last: number;
}

/** An expert that was chosen beside another: lift is how much oftener than by chance. */
export interface Together {
  expert: number;
  times: number;
  lift: number;
}

/**
 * How alike two streams use each layer: the share of choices that both make, 0 to 1, of all
 * their tokens (the sum over experts of the smaller of the two shares).
 */
export function overlap(a: Tally, b: Tally): Float32Array {
  const out = new Float32Array(Math.min(a.layers, b.layers));
  for (let layer = 0; layer < out.length; layer++) {
    const [ofA, ofB] = [a.choices[layer]!, b.choices[layer]!];
    if (ofA === 0 || ofB === 0) continue;
    let sum = 0;
    for (let expert = 0; expert < a.experts; expert++) {
      const at = layer * a.experts + expert;
      sum += Math.min(a.counts[at]! / ofA, b.counts[at]! / ofB);
    }
    out[layer] = sum;
  }
  return out;
}
