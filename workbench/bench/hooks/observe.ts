// Looks at what one layer was routed to, and keeps count.

import { script } from "roundhouse";

export default script({
  api: 1,
  hooks({ model }) {
    const layer = model.layers >> 1;
    const counts = new Uint32Array(model.experts);
    return {
      routing(r) {
        for (const expert of r.ids(layer)) counts[expert]++;
      },
    };
  },
});
