// Draws from the difference of two temperatures: softmax(logits / low) less weight times
// softmax(logits / high), of the k best tokens, where that is above 0. Tokens that gain
// by heat, the tail, are cut; how many depends on the shape of the distribution.
//
// The difference is one of probabilities, since one of logits would be just another
// temperature: logits/low - weight * logits/high is logits / T with
// 1/T = 1/low - weight/high. After contrastive decoding: Li et al. 2022, whose second,
// weaker model is played by the high temperature.

import { script } from "roundhouse";

function softmax(logits: Float32Array, temperature: number): number[] {
  const weights = Array.from(logits, (x) => Math.exp((x - logits[0]) / temperature)); // the best comes first
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((w) => w / sum);
}

export default script({
  api: 1,
  budget: 5, // for a large k
  params: {
    low: { type: "number", default: 0.8, minimum: 0.05, maximum: 5, description: "the temperature that is drawn at" },
    high: { type: "number", default: 2, minimum: 0.05, maximum: 20, description: "the temperature whose tokens are not wanted" },
    weight: { type: "number", default: 0.5, minimum: 0, maximum: 1, description: "of what is taken away" },
    k: { type: "integer", default: 40, minimum: 1, maximum: 256, description: "tokens that are looked at" },
  },
  hooks({ params, random }) {
    return {
      logits(l) {
        l.temperature(1).topK(params.k); // the two temperatures take the place of the request's
      },
      sample(c) {
        const low = softmax(c.logits, params.low);
        const high = softmax(c.logits, params.high);
        const weights = low.map((p, i) => Math.max(0, p - params.weight * high[i]));
        let left = random() * weights.reduce((a, b) => a + b, 0);
        const chosen = weights.findIndex((w) => (left -= w) < 0);
        return c.ids[Math.max(chosen, 0)]; // none: all weights are 0, and the best stands
      },
    };
  },
});
