// The script's form: see twin.go.
import type { Hooks } from "roundhouse";

export function twin({ model, random, steer }: any): Hooks {
  const last: number[][] = [];
  return {
    logits(l, at) {
      l.ban(at.position % 3 === 0 ? [7, 300] : [265]);
    },
    sample(c) {
      const best = c.logprobs[0];
      const weights: number[] = [];
      let sum = 0;
      for (let i = 0; i < Math.min(20, c.n); i++) {
        const w = Math.exp(c.logprobs[i] - best);
        if (w < 0.1) break;
        sum += w;
        weights.push(w);
      }
      let u = random() * sum;
      for (let i = 0; i < weights.length; i++) {
        u -= weights[i];
        if (u < 0) return c.ids[i];
      }
      return c.ids[weights.length - 1];
    },
    routing(r) {
      last.push(Array.from(r.ids(3)));
      if (last.length > 8) last.shift();
      const counts: number[] = Array(model.experts).fill(0);
      for (const ids of last) for (const id of ids) counts[id]++;
      let most = 0;
      for (let id = 0; id < counts.length; id++) if (counts[id] > counts[most]) most = id;
      steer.layer(3).clear().ban(most);
    },
  };
}
