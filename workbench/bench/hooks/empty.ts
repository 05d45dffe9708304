// What it costs to be there: a handler that does nothing.

import { script } from "roundhouse";

export default script({
  api: 1,
  hooks() {
    return { logits() {} };
  },
});
