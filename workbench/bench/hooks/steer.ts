// Steers one layer anew at every token: an expert is held back the more it is used.

import { script } from "roundhouse";

export default script({
  api: 1,
  hooks({ model, steer }) {
    const layer = model.layers >> 1;
    return {
      routing(r) {
        steer.layer(layer).bias(3, -r.share(layer, 3));
      },
    };
  },
});
