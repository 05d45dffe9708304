// A temperature that follows the entropy H of every token: base * 0.8^(theta / H). Where
// the model is sure (a name, a bracket) it comes close to 0, where many words would do
// it comes close to base.
//
// Zhang et al. 2024, "EDT: Improving Large Language Models' Generation by Entropy-based
// Dynamic Temperature Sampling".

import { script } from "roundhouse";

export default script({
  api: 1,
  params: {
    base: { type: "number", default: 1, minimum: 0, maximum: 5, description: "temperature where entropy is high" },
    theta: { type: "number", default: 1, minimum: 0, maximum: 20, description: "how far it falls where entropy is low; 0 for not at all" },
  },
  hooks({ params, emit }) {
    return {
      logits(l) {
        const entropy = Math.max(l.entropy(), 1e-3); // a certain token has none
        const temperature = params.base * 0.8 ** (params.theta / entropy);
        l.temperature(temperature);
        emit("temperature", temperature);
      },
    };
  },
});
