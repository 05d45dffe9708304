// Ends thinking in time: after `tokens` tokens between the texts `open` and `close` the
// latter is put there, and the reply goes on with the answer. A prompt that ends inside
// of thinking, as templates of thinking models do, counts from its end.
//
// Budget forcing: Muennighoff et al. 2025, "s1: Simple test-time scaling".

import { script } from "roundhouse";

export default script({
  api: 1,
  lag: 1, // what is put there comes right behind
  params: {
    tokens: { type: "integer", default: 512, minimum: 1, maximum: 1000000, description: "that thinking may take" },
    open: { type: "string", default: "<think>", maxLength: 100, description: "thinking begins behind this" },
    close: { type: "string", default: "</think>", maxLength: 100, description: "and ends with this" },
    last: { type: "string", default: "\n", maxLength: 1000, description: "last words, before it is closed" },
  },
  hooks({ params, tokens, state, inject, emit }) {
    const st = state(() => ({ thinking: false, tokens: 0, tail: "" }));
    const keep = params.open.length + params.close.length;

    /** Follows a text: what was opened or closed last decides. */
    const read = (text: string) => {
      st.tail += text;
      const open = st.tail.lastIndexOf(params.open);
      const close = st.tail.lastIndexOf(params.close);
      if (open !== close) st.thinking = open > close;
      st.tail = st.tail.slice(-keep);
    };

    return {
      prompt(p) {
        read(tokens.decode(p.ids));
      },
      token(t) {
        const before = st.thinking;
        read(t.text);
        st.tokens = before && st.thinking ? st.tokens + 1 : 0;
        if (t.forced || st.tokens < params.tokens) return;
        inject(params.last + params.close + "\n\n");
        emit("closed", st.tokens);
      },
    };
  },
});
