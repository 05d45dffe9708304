// Takes phrases back: when the reply has said one of `phrases`, it goes back to the token
// that the phrase began with and draws another there. The reader sees nothing of it, for
// the last tokens are held back.
//
// A ban of the phrase's first token would cost all that begins alike; here only the whole
// phrase counts. After the "antislop" sampler of Paech 2024.

import { script } from "roundhouse";

const HOLD = 24; // tokens: no phrase may be longer

export default script({
  api: 1,
  lag: 1, // a phrase is noticed before the next token is drawn
  hold: HOLD,
  params: {
    phrases: { type: "string", default: "", maxLength: 8000, description: "one a line; upper and lower case are the same" },
  },
  hooks({ params, state, rewind, emit }) {
    const phrases = params.phrases.toLowerCase().split("\n").filter((line) => line !== "");
    const recent = state(() => ({ ids: [] as number[], texts: [] as string[] })); // goes back with a rewind
    const banned = new Map<number, number[]>(); // by position; does not go back

    /** The token that a phrase begins in which the text ends with or has; -1 for none. */
    const begins = () => {
      const text = recent.texts.join("").toLowerCase();
      const at = phrases.map((p) => text.indexOf(p)).filter((i) => i >= 0);
      if (at.length === 0) return -1;
      let left = Math.min(...at);
      return recent.texts.findIndex((piece) => (left -= piece.length) < 0);
    };

    return {
      logits(l, at) {
        const ids = banned.get(at.position);
        if (ids) l.ban(ids);
        banned.delete(at.position - HOLD); // it can no longer be drawn again
      },
      token(t) {
        recent.ids.push(t.id);
        recent.texts.push(t.text);
        const first = begins();
        if (first >= 0) {
          const to = t.position - (recent.ids.length - 1 - first);
          banned.set(to, [...(banned.get(to) ?? []), recent.ids[first]]);
          emit("back", recent.texts.slice(first).join(""));
          rewind(to);
          return;
        }
        if (recent.ids.length === HOLD) {
          recent.ids.shift();
          recent.texts.shift();
        }
      },
    };
  },
});
