// Min-p with a floor that rises with entropy. Min-p keeps the tokens that are at least
// `floor` times as likely as the best one. Where the model is unsure, that lets a long
// tail in: here each nat of entropy raises the floor, so that a high temperature
// stays readable.
//
// After min-p: Nguyen et al. 2024, "Turning Up the Heat".

import { script } from "roundhouse";

export default script({
  api: 1,
  params: {
    floor: { type: "number", default: 0.05, minimum: 0, maximum: 1, description: "min-p where the model is sure" },
    rise: { type: "number", default: 0.05, minimum: 0, maximum: 1, description: "added for each nat of entropy" },
    ceiling: { type: "number", default: 0.4, minimum: 0, maximum: 1, description: "the floor never rises above this" },
  },
  hooks({ params, emit }) {
    return {
      logits(l) {
        const floor = Math.min(params.ceiling, params.floor + params.rise * l.entropy());
        l.minP(floor);
        emit("min_p", floor);
      },
    };
  },
});
