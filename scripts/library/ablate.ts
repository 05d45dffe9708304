// Takes experts away: those that are listed, from the first prompt token on, and the ones
// that a layer has used most once `after` tokens were drawn. What the text loses tells
// what they were for.

import { script } from "roundhouse";

/** Reads "3: 1 4; 5: 7" as layers with their experts. */
function listed(text: string): Map<number, number[]> {
  const all = new Map<number, number[]>();
  for (const part of text.split(";")) {
    if (part.trim() === "") continue;
    const found = /^\s*(\d+)\s*:\s*(\d+(?:[\s,]+\d+)*)\s*$/.exec(part);
    if (!found) throw new Error(`"${part.trim()}" is not LAYER: EXPERT EXPERT ...`);
    all.set(Number(found[1]), found[2].split(/[\s,]+/).map(Number));
  }
  return all;
}

/** Where the n largest values are, the largest first: a sort of all would take too long. */
function largest(values: Uint32Array, n: number): number[] {
  const best: number[] = [];
  for (let i = 0; i < values.length; i++) {
    if (values[i] === 0 || (best.length === n && values[i] <= values[best[n - 1]])) continue;
    let at = best.length;
    while (at > 0 && values[best[at - 1]] < values[i]) at--;
    best.splice(at, 0, i);
    if (best.length > n) best.pop();
  }
  return best;
}

export default script({
  api: 1,
  budget: 200, // when the most used are looked for, once
  params: {
    experts: { type: "string", default: "", maxLength: 4096, description: "experts by layer: \"3: 1 4; 5: 7\"" },
    top: { type: "integer", default: 0, minimum: 0, maximum: 256, description: "how many of the most used experts of every layer go too" },
    after: { type: "integer", default: 32, minimum: 1, maximum: 4096, description: "tokens that are counted for that" },
  },
  hooks({ params, model, steer, state, emit }) {
    listed(params.experts).forEach((experts, layer) => steer.layer(layer).ban(experts));

    // As many stay as a token chooses.
    const top = Math.min(params.top, model.experts - model.topK);
    const count = state(() => ({ rows: 0 }));
    return {
      routing(r) {
        if (top === 0 || ++count.rows !== params.after) return;
        const gone: number[][] = [];
        for (let layer = 0; layer < model.layers; layer++) {
          gone.push(largest(r.counts(layer), top));
          steer.layer(layer).ban(gone[layer]);
        }
        emit("banned", gone); // experts by layer
      },
    };
  },
});
