// The page Engine.
import { check, complete, live, ok, open, sleep, until } from "./harness.mjs";

export async function engine(url) {
  await check("engine: batch, time by phase, memory, hooks, events", async () => {
    const page = await open(url + "/ui/engine");
    await live(page);
    await page.locator("text=Memory by arena").waitFor();
    const replies = Promise.all([1, 2].map((seed) => complete(url, { max_tokens: 150, seed, roundhouse: { pace: 60, script: "forbid" } })));
    const card = (name) => page.locator(".card", { has: page.locator(`h2:text-is("${name}")`) });
    await until("both in the batch", async () => (await card("Batch").locator("tbody tr").count()) === 2);
    await until("their tokens", async () => (await card("Batch").locator("tbody td.number").allTextContents()).some((text) => Number(text) > 30));
    const phases = await card("Step time by phase").locator("tbody tr").allTextContents();
    ok(phases.some((text) => text.startsWith("experts")) && phases.length >= 6, phases.join("; "));
    const shares = phases.map((text) => parseFloat(/([\d.]+) %$/.exec(text)[1])).reduce((a, b) => a + b, 0);
    ok(Math.abs(shares - 100) < 4, `the shares add up to ${shares} %`);
    const memory = await card("Memory by arena").locator("tbody tr").allTextContents();
    ok(["weights", "cache", "buffers"].every((name) => memory.some((text) => text.startsWith(name))), memory.join("; "));
    await replies;
    await until("the cost of the script", async () => (await card("Cost of hooks").locator("tbody tr").allTextContents()).some((text) => text.startsWith("forbid")));
    const feed = page.locator(".feed li");
    await until("its events", async () => (await feed.allTextContents()).filter((text) => text.includes("request_ended")).length >= 2);
    await page.selectOption("label:has-text('Kind') select", "request_started");
    ok((await feed.allTextContents()).every((text) => text.includes("request_started")), "one kind of events");
    await page.getByRole("button", { name: "Hold" }).click();
    const held = await feed.count();
    await complete(url, { max_tokens: 3 });
    await sleep(500);
    ok((await feed.count()) === held, "events while they are held");
    await page.getByRole("button", { name: "Go on" }).click();
    await until("the one that was missed", async () => (await feed.count()) > held);
  });
}
