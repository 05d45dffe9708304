// Draws with more care where the model is unsure, and keeps a token from coming too
// often in a row.
import { script } from "roundhouse";

export default script({
  api: 1,
  lag: 1, // so that logits knows of the last token
  params: {
    unsure: { type: "number", default: 2, minimum: 0, description: "entropy in nats from which on to take care" },
    repeats: { type: "integer", default: 3, minimum: 1, description: "how often a token may come in a row" },
  },
  hooks({ params, state, emit }) {
    const last = state(() => ({ id: -1, times: 0 }));
    return {
      logits(l) {
        const entropy = l.entropy();
        if (entropy >= params.unsure) {
          l.temperature(0.5).minP(0.1);
          emit("unsure", entropy);
        }
        if (last.times >= params.repeats) l.ban(last.id);
      },
      token(t) {
        last.times = t.id === last.id ? last.times + 1 : 1;
        last.id = t.id;
      },
    };
  },
});
