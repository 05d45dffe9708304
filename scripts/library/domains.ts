// Gives subjects experts of their own. As soon as a keyword is read, in the prompt or in
// the reply, its experts are forced, and stay so until `hold` tokens have come without
// one. Which experts serve a subject, `routing` shows.

import { script } from "roundhouse";

interface Domain {
  words: string[];
  experts: { layer: number; ids: number[] }[];
}

/** Reads "func return = 3: 1 4, 5: 7; dragon = 2: 9" as domains. */
function domains(text: string): Domain[] {
  return text.split(";").filter((part) => part.trim() !== "").map((part) => {
    const [words, experts] = part.split("=");
    const list = (experts ?? "").split(",").map((layer) => /^\s*(\d+)\s*:\s*(\d+(?:\s+\d+)*)\s*$/.exec(layer));
    if (words.trim() === "") throw new Error(`"${part.trim()}" has no keyword`);
    return {
      words: words.trim().toLowerCase().split(/\s+/),
      experts: list.map((found) => {
        if (!found) throw new Error(`"${part.trim()}" is not KEYWORD ... = LAYER: EXPERT ..., LAYER: EXPERT ...`);
        return { layer: Number(found[1]), ids: found[2].split(/\s+/).map(Number) };
      }),
    };
  });
}

export default script({
  api: 1,
  params: {
    domains: { type: "string", default: "", maxLength: 4096, description: "keywords and their experts by layer: \"func return = 3: 1 4, 5: 7; dragon = 2: 9\"" },
    hold: { type: "integer", default: 48, minimum: 1, maximum: 4096, description: "tokens that a domain stays on for after its last keyword" },
  },
  hooks({ params, tokens, steer, state, emit }) {
    const all = domains(params.domains);
    const longest = Math.max(1, ...all.flatMap((d) => d.words.map((word) => word.length)));
    const st = state(() => ({ tail: "", left: all.map(() => 0) }));

    // Sets the experts of the domains that are on: what is steered stays until it is
    // set again.
    const force = () => {
      for (const { experts } of all) for (const { layer } of experts) steer.layer(layer).clear();
      all.forEach(({ experts }, i) => {
        if (st.left[i] > 0) for (const { layer, ids } of experts) steer.layer(layer).force(ids);
      });
    };
    const read = (text: string) => {
      const before = st.left.map((left) => left > 0);
      st.tail += text.toLowerCase();
      st.left = st.left.map((left, i) => (all[i].words.some((word) => st.tail.includes(word)) ? params.hold : Math.max(0, left - 1)));
      // What was found is not found again; a keyword's beginning may be the last thing read.
      for (const { words } of all) for (const word of words) st.tail = st.tail.split(word).pop() ?? "";
      st.tail = st.tail.slice(-longest);
      if (st.left.every((left, i) => left > 0 === before[i])) return;
      force();
      emit("domains", { on: all.filter((_, i) => st.left[i] > 0).map(({ words }) => words[0]) });
    };

    force(); // where a newer version of this script goes on
    return {
      prompt(p) {
        read(tokens.decode(p.ids));
      },
      token(t) {
        read(t.text);
      },
    };
  },
});
