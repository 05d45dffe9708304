// Looks for the watermark of a key, in the prompt and in the reply, and tells when the
// reply has ended: to examine a text, send it as the prompt. p is the chance that a
// text without watermark is as green.
//
// Kirchenbauer et al. 2023, "A Watermark for Large Language Models".

import { script } from "roundhouse";
import { detect } from "./watermark";

export default script({
  api: 1,
  budget: 20, // for a long prompt
  params: {
    key: { type: "integer", default: 1, minimum: 0, maximum: 2147483647, description: "the secret that the text was written with" },
    share: { type: "number", default: 0.25, minimum: 0.05, maximum: 0.95, description: "the green part of the vocabulary, as it was then" },
  },
  hooks({ params, state, emit }) {
    const ids = state(() => ({ prompt: [] as number[], reply: [] as number[] }));
    return {
      prompt(p) {
        ids.prompt = Array.from(p.ids);
      },
      token(t) {
        ids.reply.push(t.id);
      },
      finish() {
        const { key, share } = params;
        emit("prompt", detect(ids.prompt, key, share));
        emit("reply", detect([...ids.prompt.slice(-1), ...ids.reply], key, share)); // its first token has one before it
      },
    };
  },
});
