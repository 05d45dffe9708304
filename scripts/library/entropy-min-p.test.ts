import { expect, run, test } from "roundhouse/test";
import entropyMinP from "./entropy-min-p";

// Rows of n tokens that are alike: their entropy is log(n).
const alike = (n: number) => ({ logits: Array(n).fill(0) });

test("the floor rises with entropy, up to the ceiling", () => {
  const params = { floor: 0.1, rise: 0.05, ceiling: 0.3 };
  const { steps } = run(entropyMinP, { params, steps: [alike(1), alike(8), alike(1000)] });
  expect(steps[0].minP).toBe(0.1);
  expect(steps[1].minP).toBeCloseTo(0.1 + 0.05 * Math.log(8), 6);
  expect(steps[2].minP).toBe(0.3);
});

test("it tells the floor of every token, and edits nothing else", () => {
  const { steps, events } = run(entropyMinP, { steps: [alike(2), alike(4)] });
  expect(events.map((e) => e.value)).toEqual(steps.map((s) => s.minP));
  expect(steps[0].bias).toEqual({});
  expect(steps[0].temperature).toBe(undefined);
});
