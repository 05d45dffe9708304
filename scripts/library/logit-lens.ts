// Looks at what the model would say if its forward pass ended early: the final norm and
// head over the residual behind some layers (the logit lens). For each it counts how often
// the token that was chosen is already the best one there, and how likely it is.
//
// The logit lens: nostalgebraist 2020, "interpreting GPT: the logit lens".

import { script, type Candidates } from "roundhouse";

export default script({
  api: 1,
  params: {
    first: { type: "integer", default: 0, minimum: 0, maximum: 1000, description: "layer that is looked behind first" },
    last: { type: "integer", default: 1000, minimum: 0, maximum: 1000, description: "and last; beyond the model's for its last" },
    layers: { type: "integer", default: 4, minimum: 1, maximum: 8, description: "how many, evenly from the first to the last" },
    top: { type: "integer", default: 10, minimum: 1, maximum: 256, description: "tokens that are looked at; what is behind them counts as 0" },
  },
  hooks({ params, model, emit }) {
    const last = Math.min(params.last, model.layers - 1);
    const first = Math.min(params.first, last);
    const layers = [...new Set(Array.from({ length: params.layers }, (_, i) => Math.round(first + ((last - first) * i) / Math.max(1, params.layers - 1))))];
    const told = new Map<number, Candidates[]>(); // of the row before a position, by layer
    const sums = layers.map((layer) => ({ layer, tokens: 0, best: 0, probability: 0 }));

    return {
      hidden: {
        layers,
        at(h) {
          const next = h.position + 1; // the row gives the token behind it
          told.set(next, [...(told.get(next) ?? []), h.lens(params.top)]);
        },
      },
      token(t) {
        told.get(t.position)?.forEach((c, i) => {
          const rank = c.ids.indexOf(t.id);
          sums[i].tokens++;
          if (rank === 0) sums[i].best++;
          if (rank >= 0) sums[i].probability += Math.exp(c.logprobs[rank]);
        });
        told.delete(t.position);
      },
      finish() {
        const mean = (sum: number, n: number) => sum / Math.max(1, n);
        emit("lens", sums.map((s) => ({ layer: s.layer, tokens: s.tokens, best: mean(s.best, s.tokens), probability: mean(s.probability, s.tokens) })));
      },
    };
  },
});
