// Counts who does the work: how often each layer chose which experts, how evenly (the
// entropy of use: log2(experts) bits where all are used alike), and which pairs it chose
// together. Told when the reply has ended, and changes nothing.

import { script } from "roundhouse";

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
  capture: "all",
  budget: 50, // 48 layers take 2 ms; finish has 25 times as much
  params: {
    prompt: { type: "boolean", default: false, description: "the prompt's tokens count too" },
    top: { type: "integer", default: 4, minimum: 0, maximum: 16, description: "how many experts of a layer are named, most used first" },
    pairs: { type: "integer", default: 0, minimum: -1, maximum: 1023, description: "the layer whose pairs are counted; -1 for none" },
  },
  hooks({ params, model, emit }) {
    const experts = model.experts;
    const counts = Array.from({ length: model.layers }, () => new Uint32Array(experts));
    const pairs = new Uint32Array(experts * experts); // of a layer: those of all would not fit
    let rows = 0;

    return {
      routing(r) {
        if (r.phase === "prompt" && !params.prompt) return;
        rows++;
        for (let layer = 0; layer < model.layers; layer++) {
          const ids = r.ids(layer);
          for (let i = 0; i < ids.length; i++) counts[layer][ids[i]]++;
          if (layer !== params.pairs) continue;
          for (const a of ids) for (const b of ids) if (a < b) pairs[a * experts + b]++;
        }
      },
      finish() {
        const layers = counts.map((used) => {
          const all = used.reduce((a, b) => a + b, 0);
          let entropy = 0; // bits
          for (const n of used) if (n > 0) entropy -= (n / all) * Math.log2(n / all);
          return {
            entropy: Number(entropy.toFixed(3)),
            unused: used.filter((n) => n === 0).length,
            top: largest(used, params.top).map((expert) => [expert, used[expert]]),
          };
        });
        emit("routing", { rows, layers });
        if (params.pairs >= 0) {
          const top = largest(pairs, 8).map((i) => [Math.floor(i / experts), i % experts, pairs[i]]);
          emit("pairs", { layer: params.pairs, top }); // two experts, and how often
        }
      },
    };
  },
});
