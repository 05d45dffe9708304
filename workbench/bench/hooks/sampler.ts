// A plain sampler of its own: temperature, and a draw from what top-k left.

import { script } from "roundhouse";

export default script({
  api: 1,
  hooks({ random }) {
    return {
      sample({ n, ids, logprobs }) {
        const weights = [];
        let sum = 0;
        for (let i = 0; i < n; i++) sum += weights[i] = Math.exp(logprobs[i] / 0.9);
        let left = random() * sum;
        for (let i = 0; i < n; i++) if ((left -= weights[i]) < 0) return ids[i];
        return ids[n - 1];
      },
    };
  },
});
