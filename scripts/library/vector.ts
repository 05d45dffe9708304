// Adds a steering vector to the residual behind a layer, from the first prompt token on
// or in the reply only. The vector is found by its name; `cheer`, which comes with the
// library, is for the demo model.
//
// Turner et al. 2023, "Activation Addition: Steering Language Models Without
// Optimization".

import { script } from "roundhouse";

export default script({
  api: 1,
  params: {
    vector: { type: "string", default: "cheer", maxLength: 128, description: "its name" },
    layer: { type: "integer", default: 5, minimum: 0, maximum: 1023, description: "the layer that it is added behind, counted from 0" },
    scale: { type: "number", default: 2, minimum: -1000, maximum: 1000, description: "factor; below 0 it steers away" },
    prompt: { type: "boolean", default: true, description: "the prompt is read with it too" },
  },
  hooks({ params, steer }) {
    steer.vector(params.vector, { layer: params.layer, scale: params.scale });
    if (!params.prompt) steer.decodeOnly();
    return {};
  },
});
