// Leads away from a second prompt: each token is drawn from (1 + strength) times the
// logits, less strength times those that the text `away` gives with the reply behind it.
// What both prompts would say stays as it is, what only the second would say loses. A
// text that says nothing has the prompt itself count more.
//
// Classifier-free guidance for language models: Sanchez et al. 2023, "Stay on topic with
// Classifier-Free Guidance". The second prompt is read in the same steps; it takes the
// place of a stream.

import { script } from "roundhouse";

export default script({
  api: 1,
  params: {
    away: { type: "string", default: "\n", maxLength: 16000, description: "a whole prompt, in the form that the model's template gives it" },
    strength: { type: "number", default: 0.5, minimum: -0.99, maximum: 10, description: "0 changes nothing; below 0 leads towards the text" },
  },
  hooks({ params, sequence }) {
    const other = sequence(params.away);
    return {
      logits(l) {
        l.scale(1 + params.strength).add(other.logits, -params.strength);
      },
    };
  },
});
