import { script } from "roundhouse";

// Forbids what is likeliest, so that every token is another than it would have been.
export default script({
  api: 1,
  hooks() {
    return {
      logits(l) {
        l.ban(l.top(1).ids[0]);
      },
    };
  },
});
