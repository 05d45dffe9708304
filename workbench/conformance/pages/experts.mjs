// The page Experts: what it shows is compared with the routing that replies have.
import { readFile } from "node:fs/promises";
import { check, complete, counts, equal, evidence, live, ok, open, proxy, say, sleep, until } from "./harness.mjs";

/** How often each expert was chosen, [layers][experts]. */
function counted(tokens, layers, experts) {
  const out = Array.from({ length: layers }, () => new Array(experts).fill(0));
  for (const { routing } of tokens) routing?.ids.forEach((ids, layer) => ids.forEach((id) => out[layer][id]++));
  return out;
}

/** The number of a stream, by its request. */
async function handleOf(page, id) {
  const option = page.locator("label:has-text('Stream') select option", { hasText: id.slice(0, 14) });
  return until("the stream " + id, async () => (await option.first().getAttribute("value").catch(() => "")) || "");
}

/** How many tokens of its stream a map has. */
async function tokensOf(page, map = 0) {
  const text = await page.locator(".experts-maps header .unit:not(.state)").nth(map).textContent();
  return Number(/^([\d,]+) tokens/.exec(text)[1].replace(",", ""));
}

/** What "Save data" saves. */
async function saved(page) {
  const download = page.waitForEvent("download");
  await page.click("text=Save data");
  return JSON.parse(await readFile(await (await download).path(), "utf8"));
}

export async function experts(url) {
  await check("what was counted equals the routing of the reply", async () => {
    const page = await open(url + "/ui/experts");
    await live(page);
    const { id, tokens } = await complete(url, { max_tokens: 200 });
    await page.selectOption("label:has-text('Stream') select", await handleOf(page, id));
    await until("all tokens", async () => (await tokensOf(page)) === 200);
    const data = await saved(page);
    equal(data.streams[0].tokens, 200, "tokens");
    equal(data.streams[0].counts, counted(tokens, 8, 32), "counts of every expert");
    equal((await counts(page)).dropped, 0, "frames dropped");
  });

  await check("one token at a time, with the weights of the reply", async () => {
    const page = await open(url + "/ui/experts?mode=token");
    await live(page);
    const { tokens } = await complete(url, { max_tokens: 50 });
    await until("the tokens", async () => (await tokensOf(page)) === 50);
    const range = page.locator(".scrub input");
    for (const at of [49, 0, 23]) {
      await range.fill(String(at));
      const { routing } = tokens[at];
      await until("the position", async () => (await page.locator(".scrub").textContent()).includes(`position ${routing.position + 1} `));
      for (const layer of [0, 5, 7]) {
        const box = await page.locator(".map-field").boundingBox();
        const expert = routing.ids[layer][0];
        await page.mouse.move(box.x + ((expert + 0.5) / 32) * box.width, box.y + ((layer + 0.5) / 8) * box.height);
        await page.locator(`.tip:has-text("Layer ${layer}, expert ${expert}:")`).waitFor();
        await until("its weight", async () => {
          await page.mouse.move(box.x + ((expert + 0.4) / 32) * box.width + Math.random(), box.y + ((layer + 0.5) / 8) * box.height);
          const shown = Number(/weight ([\d.]+)/.exec(await page.locator(".tip").textContent())?.[1]);
          return Math.abs(shown - routing.weights[layer][0]) < 0.0006; // three places, of 16 bits
        });
      }
    }
  });

  await check("a ban made on the map is absent from the next routing frames", async () => {
    const page = await open(url + "/ui/experts?mode=all");
    await live(page);
    const reply = complete(url, { max_tokens: 160, roundhouse: { pace: 40 } });
    await until("a third of the tokens", async () => (await tokensOf(page)) > 50);
    // The busiest expert of layer 2, as the page has counted.
    const so = (await saved(page)).streams[0].counts[2];
    const expert = so.indexOf(Math.max(...so));
    const box = await page.locator(".map-field").boundingBox();
    await page.mouse.click(box.x + ((expert + 0.5) / 32) * box.width, box.y + (2.5 / 8) * box.height);
    await page.locator(`.experts-side >> text=Layer 2, expert ${expert}`).waitFor();
    await page.getByRole("button", { name: "Ban", exact: true }).click();
    const told = await page.locator(".steering .notice", { hasText: "In force from position" }).textContent();
    const from = Number(/position (\d+)/.exec(told)[1]);
    const { tokens } = await reply;
    const has = (t) => t.routing.ids[2].includes(expert);
    const before = tokens.filter((t) => t.routing.position < from);
    const after = tokens.filter((t) => t.routing.position >= from);
    ok(before.filter(has).length >= 5, `chosen ${before.filter(has).length} times before`);
    ok(after.length >= 20, `${after.length} tokens after`);
    evidence(`a banned expert in the ${after.length} rows after the ban`, after.filter(has).length, "choices", "<=", 0);
    // And the frames that the page has had say the same.
    await until("the last tokens", async () => (await tokensOf(page)) === 160);
    equal((await saved(page)).streams[0].counts, counted(tokens, 8, 32), "counts of every expert");
  });

  await check("bias, force and scale of a running stream; all is taken back", async () => {
    const page = await open(url + "/ui/experts");
    await live(page);
    const reply = complete(url, { max_tokens: 300, roundhouse: { pace: 50 } });
    await until("some tokens", async () => (await page.locator(".dot.live").count()) > 1);
    const from = {};
    const steer = async (name, expert) => {
      await page.evaluate((to) => {
        history.pushState(null, "", to);
        dispatchEvent(new PopStateEvent("popstate"));
      }, `/ui/experts?expert=4.${expert}`);
      await page.locator(`.experts-side >> text=Layer 4, expert ${expert}`).waitFor();
      await page.getByRole("button", { name, exact: true }).click();
      from[name] = Number(/position (\d+)/.exec(await page.locator(".steering .notice", { hasText: "In force from position" }).textContent())[1]);
    };
    await page.locator(".map-field").click({ position: { x: 5, y: 5 } });
    await steer("Force", 9);
    await steer("Bias", 11);
    await steer("Scale", 9); // in the place of Force
    await page.getByRole("button", { name: "Take all back" }).click();
    const off = Number(/position (\d+)/.exec(await page.locator(".steering .notice", { hasText: "taken back from position" }).textContent())[1]);
    const { tokens } = await reply;
    const rows = (a, b) => tokens.filter((t) => t.routing.position >= a && t.routing.position < b).map((t) => t.routing.ids[4]);
    const forced = rows(from.Force, from.Scale);
    ok(forced.length > 3 && forced.every((ids) => ids.includes(9)), `forced in ${forced.filter((ids) => ids.includes(9)).length} of ${forced.length}`);
    const later = rows(off, 1e9);
    ok(later.length > 10 && !later.every((ids) => ids.includes(9)), "it is free again");
  });

  await check("a pace is set while a stream runs", async () => {
    const page = await open(url + "/ui/experts");
    await live(page);
    const reply = complete(url, { max_tokens: 120, roundhouse: { pace: 20 } });
    const state = page.locator(".experts-maps header .state").first();
    await until("it runs", async () => (await state.textContent().catch(() => "")).includes("tokens/s"));
    await page.getByRole("button", { name: "Pause" }).click();
    await until("it stands still", async () => (await state.textContent()).includes("standing still"));
    await sleep(200);
    const head = page.locator(".experts-maps header .unit").first();
    const then = await head.textContent();
    await sleep(600);
    equal(await head.textContent(), then, "tokens while it stands still");
    await page.getByRole("button", { name: "Full" }).click();
    const { tokens } = await reply;
    equal(tokens.length, 120, "tokens in all");
  });

  await check("reconnect resumes without a loss", async () => {
    const between = await proxy(url);
    const page = await open(between.url + "/ui/experts", { expected: ["WebSocket", "ERR_"] });
    await live(page);
    const reply = complete(url, { max_tokens: 150, roundhouse: { pace: 50 } });
    await until("some tokens", async () => (await tokensOf(page)) > 20);
    between.refuse(true);
    between.cut();
    await until("the loss", async () => (await page.locator(".state").first().textContent()).includes("Not connected"));
    await sleep(500);
    between.refuse(false);
    await live(page);
    const { tokens } = await reply;
    await until("all tokens", async () => (await tokensOf(page)) === 150);
    const data = await saved(page);
    equal(data.streams[0].counts, counted(tokens, 8, 32), "counts of every expert");
    const now = await counts(page);
    ok(now.resumed >= 1 && now.dropped === 0, JSON.stringify(now));
    await page.context().close();
    between.close();
  });

  await check("two streams compare", async () => {
    const page = await open(url + "/ui/experts?mode=all");
    await live(page);
    const [a, b] = await Promise.all([complete(url, { max_tokens: 120 }), complete(url, { max_tokens: 90, prompt: "def add(a, b):" })]);
    const [first, second] = [await handleOf(page, a.id), await handleOf(page, b.id)];
    await page.selectOption("label:has-text('Stream') select", first);
    await page.selectOption("label:has-text('Side by side') select", second);
    await until("both maps", async () => (await page.locator(".experts-maps .map").count()) === 2 && (await tokensOf(page)) === 120 && (await tokensOf(page, 1)) === 90);
    const [ofA, ofB] = [counted(a.tokens, 8, 32), counted(b.tokens, 8, 32)];
    const want = ofA.map((row, layer) => {
      const [sumA, sumB] = [row.reduce((x, y) => x + y), ofB[layer].reduce((x, y) => x + y)];
      return row.reduce((sum, n, expert) => sum + Math.min(n / sumA, ofB[layer][expert] / sumB), 0);
    });
    await page.locator(".overlap i").first().waitFor();
    const got = await page.locator(".overlap i").evaluateAll((all) => all.map((one) => parseFloat(one.style.height) / 100));
    equal(got.length, 8, "layers");
    const worst = Math.max(...got.map((value, n) => Math.abs(value - want[n])));
    evidence("overlap by layer, off by at most", Number(worst.toFixed(5)), "share", "<=", 0.0006);
    // A link shows the same two.
    ok(page.url().includes(`stream=${first}`) && page.url().includes(`beside=${second}`), page.url());
  });

  await check("an expert: who chose it, when, with whom; picture and data", async () => {
    const page = await open(url + "/ui/experts?mode=all");
    await live(page);
    const { tokens } = await complete(url, { max_tokens: 120 });
    await until("the tokens", async () => (await tokensOf(page)) === 120);
    const of = counted(tokens, 8, 32)[6];
    const expert = of.indexOf(Math.max(...of));
    // By keyboard: down six layers, right to the expert.
    await page.locator(".map-field").focus();
    await page.keyboard.press("ArrowDown");
    for (let n = 0; n < 6; n++) await page.keyboard.press("ArrowDown");
    for (let n = 0; n < expert; n++) await page.keyboard.press("ArrowRight");
    await page.keyboard.press("Enter");
    const side = page.locator(".experts-side");
    await side.locator(`text=Layer 6, expert ${expert}`).waitFor();
    await side.locator(`text=${of[expert]} of 120 tokens`).waitFor();
    const texts = new Map();
    for (const t of tokens) if (t.routing.ids[6].includes(expert)) texts.set(t.id, (texts.get(t.id) ?? 0) + 1);
    const times = (await side.locator(".words li .unit").allTextContents()).map(Number);
    equal(times.slice(0, 3), [...texts.values()].sort((x, y) => y - x).slice(0, 3), "times of the words");
    const beside = new Array(32).fill(0);
    for (const t of tokens) if (t.routing.ids[6].includes(expert)) for (const id of t.routing.ids[6]) if (id !== expert) beside[id]++;
    const row = await side.locator("tbody tr").first().locator("td").allTextContents();
    equal(Number(row[1]), Math.max(...beside), "times together");
    const download = page.waitForEvent("download");
    await page.click("text=Save picture");
    const png = await readFile(await (await download).path());
    ok(png.subarray(1, 4).toString() === "PNG" && png.length > 3000, `a picture of ${png.length} bytes`);
  });
}
