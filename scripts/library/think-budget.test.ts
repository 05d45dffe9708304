import { expect, run, test } from "roundhouse/test";
import thinkBudget from "./think-budget";

const vocabulary = ["<think>", "</think>", "hm ", "so ", "\n", "\n\n", "Yes."];
const thinking = { token: 2 };

test("thinking is closed after its tokens, and the reply goes on", () => {
  const { text, steps, events } = run(thinkBudget, {
    vocabulary,
    params: { tokens: 3, last: "so " },
    prompt: "<think>",
    steps: [...Array(6).fill(thinking), { token: 6 }],
  });
  expect(text).toBe("hm hm hm so </think>\n\nYes.");
  expect(steps.map((s) => s.forced)).toEqual([false, false, false, true, true, true, false]);
  expect(events).toEqual([{ position: 3, name: "closed", value: 3 }]);
});

test("a reply that closes its thinking in time stays as it is", () => {
  const { text } = run(thinkBudget, {
    vocabulary,
    params: { tokens: 3 },
    prompt: "<think>",
    steps: [thinking, { token: 1 }, ...Array(5).fill({ token: 3 })],
  });
  expect(text).toBe("hm </think>so so so so so ");
});

test("without thinking nothing is put there", () => {
  const { steps } = run(thinkBudget, { vocabulary, params: { tokens: 1 }, prompt: "Yes.", steps: Array(4).fill(thinking) });
  expect(steps.some((s) => s.forced)).toBe(false);
});
