// Writes a watermark: the key and the token before divide the vocabulary into green and
// red, and green tokens get `strength` added to their logits. Who has the key finds
// more green in the text than chance would leave: see watermark-detect.
//
// Kirchenbauer et al. 2023, "A Watermark for Large Language Models". Each token's color
// is hashed by itself, so that only the likely ones need to be looked at.

import { script } from "roundhouse";

/** Stirs a number into a hash (the finalizer of MurmurHash3). */
function stir(hash: number, x: number): number {
  hash = Math.imul(hash ^ x, 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}

/** Which tokens are green behind another one; a part of `share` are. */
export function greenList(key: number, previous: number, share: number): (id: number) => boolean {
  const hash = stir(stir(0, key), previous);
  return (id) => stir(hash, id) >>> 0 < share * 2 ** 32;
}

/** How green ids are from the second on: z counts standard deviations above chance, p is
 * how likely chance is to make as many. A pair that comes again says nothing new. */
export function detect(ids: ArrayLike<number>, key: number, share: number): { tokens: number; green: number; z: number; p: number } {
  const seen = new Set<string>();
  let found = 0;
  for (let i = 1; i < ids.length; i++) {
    const pair = `${ids[i - 1]} ${ids[i]}`;
    if (!seen.has(pair) && greenList(key, ids[i - 1], share)(ids[i])) found++;
    seen.add(pair);
  }
  const n = seen.size;
  let p = 0;
  let log = n * Math.log(1 - share); // of the probability of i green ones
  for (let i = 0; i <= n; i++) {
    if (i > 0) log += Math.log((((n - i + 1) / i) * share) / (1 - share));
    if (i >= found) p += Math.exp(log);
  }
  const z = n > 0 ? (found - share * n) / Math.sqrt(n * share * (1 - share)) : 0;
  return { tokens: n, green: found, z, p: Math.min(p, 1) };
}

export default script({
  api: 1,
  lag: 1, // colors hang on the token right before
  top: 256,
  params: {
    key: { type: "integer", default: 1, minimum: 0, maximum: 2147483647, description: "the secret" },
    share: { type: "number", default: 0.25, minimum: 0.05, maximum: 0.95, description: "the green part of the vocabulary" },
    strength: { type: "number", default: 4, minimum: 0, maximum: 20, description: "added to green logits" },
  },
  hooks({ params, state }) {
    const last = state(() => ({ id: -1 }));
    return {
      prompt(p) {
        last.id = p.ids[p.ids.length - 1];
      },
      token(t) {
        last.id = t.id;
      },
      logits(l) {
        const isGreen = greenList(params.key, last.id, params.share);
        l.bias(l.top(256).ids.filter(isGreen), params.strength);
      },
    };
  },
});
