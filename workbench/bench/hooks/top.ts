// Reads the most likely tokens and keeps those within a distance of the best.

import { script } from "roundhouse";

export default script({
  api: 1,
  params: { k: { type: "integer", default: 50, minimum: 1, maximum: 256 } },
  hooks({ params }) {
    return {
      logits(l) {
        const { n, ids, logprobs } = l.top(params.k);
        const kept = [];
        for (let i = 0; i < n; i++) if (logprobs[i] > logprobs[0] - 4) kept.push(ids[i]);
        l.only(kept);
      },
    };
  },
});
