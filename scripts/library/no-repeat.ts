// Keeps phrases from coming again. A token that would prolong a repeat of n tokens
// loses strength * base^(n - free) logits, for n from `free` on. Only words pay:
// punctuation and spaces, which must repeat, stay as likely as they are.
//
// After DRY: p-e-w 2024, "Don't Repeat Yourself".

import { script } from "roundhouse";

const longest = 32; // repeats are not followed further
const most = 1000; // logits: nothing costs more, and nothing needs to

// Something beside spaces, punctuation of ASCII, and the blocks of punctuation.
const word = /[^\s!-/:-@[-`{-~\u00a1-\u00bf\u2000-\u206f\u3000-\u303f]/;

export default script({
  api: 1,
  budget: 5, // for a long window
  lag: 1, // a repeat is seen from the token right before
  params: {
    strength: { type: "number", default: 0.8, minimum: 0, maximum: 20, description: "logits that the shortest repeat costs" },
    base: { type: "number", default: 1.75, minimum: 1, maximum: 4, description: "factor for each further token of it" },
    free: { type: "integer", default: 2, minimum: 1, maximum: 16, description: "repeats of fewer tokens cost nothing" },
    window: { type: "integer", default: 1024, minimum: 16, maximum: 4096, description: "tokens that are looked back" },
    prompt: { type: "boolean", default: false, description: "the prompt's phrases count too" },
  },
  hooks({ params, tokens, state }) {
    const past = state(() => ({ ids: [] as number[] }));
    const words = new Map<number, boolean>();
    const isWord = (id: number) => {
      let is = words.get(id);
      if (is === undefined) words.set(id, (is = word.test(tokens.decode(id))));
      return is;
    };
    return {
      prompt(p) {
        if (params.prompt) past.ids = Array.from(p.ids).slice(-params.window);
      },
      token(t) {
        past.ids.push(t.id);
        if (past.ids.length > params.window) past.ids.shift();
      },
      logits(l) {
        const { ids } = past;
        const last = ids.length - 1;
        const repeats = new Map<number, number>(); // by the token that would prolong it
        for (let i = last - 1; i >= 0; i--) {
          let n = 0;
          while (n < longest && n <= i && ids[i - n] === ids[last - n]) n++;
          const next = ids[i + 1];
          if (n >= params.free && n > (repeats.get(next) ?? 0)) repeats.set(next, n);
        }
        repeats.forEach((n, id) => {
          if (isWord(id)) l.bias(id, -Math.min(most, params.strength * params.base ** (n - params.free)));
        });
      },
    };
  },
});
