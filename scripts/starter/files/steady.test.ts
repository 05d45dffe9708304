// `roundhouse scripts test` runs this, without a model: rows of logits are made up.
import { expect, run, test } from "roundhouse/test";
import steady from "./steady";

test("it takes care where the model is unsure, and only there", () => {
  const { steps } = run(steady, {
    params: { unsure: 1 },
    steps: [{ logits: [1, 1, 1, 1] }, { logits: [9, 0, 0, 0] }],
  });
  expect(steps[0].temperature).toBe(0.5);
  expect(steps[0].events.unsure).toBeCloseTo(Math.log(4));
  expect(steps[1].temperature).toBe(undefined);
});

test("a token comes no more than twice in a row", () => {
  const row = { logits: { 5: 4, 7: 3 } }; // other tokens cannot be drawn
  const { ids, steps } = run(steady, { params: { repeats: 2 }, steps: Array(5).fill(row) });
  expect(ids).toEqual([5, 5, 7, 5, 5]);
  expect(steps[2].banned).toEqual([5]);
});
