// Steers every layer in one way, from the prompt on: no handler is called.

import { script } from "roundhouse";

export default script({
  api: 1,
  hooks({ steer }) {
    steer.all.bias(3, -0.5);
    return {};
  },
});
