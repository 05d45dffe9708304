// What holds of every page: quick, reachable by keyboard, readable by everybody, in both colours.
import { axe, check, complete, evidence, live, measured, ok, open, proxy, say, answered, until } from "./harness.mjs";

const PAGES = ["chat", "experts", "engine"];

export async function craft(url) {
  await check("first paint", async () => {
    const times = [];
    for (let n = 0; n < 5; n++) {
      const page = await open(url + "/ui/");
      await page.locator("nav").waitFor();
      times.push(await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 1e9));
      await page.context().close();
    }
    measured("first paint", Math.round(times.sort((a, b) => a - b)[2]), "ms", "<=", 1000);
  });

  await check("accessibility, light and dark, wide and narrow", async () => {
    for (const dark of [false, true]) {
      for (const size of [[1440, 900], [390, 844]]) {
        for (const name of PAGES) {
          const page = await open(`${url}/ui/${name}?mode=all`, { dark, size });
          await live(page);
          if (name === "chat") {
            await page.evaluate(() => document.querySelector(".panel details")?.removeAttribute("open"));
            await say(page, "What is 2 + 3?");
            await answered(page);
          }
          if (name === "experts") {
            await complete(url, { max_tokens: 30 });
            await until("the map", async () => (await page.locator(".experts-maps header").first().textContent()).includes("30 tokens"));
            await page.locator(".map-field").click({ position: { x: 40, y: 40 } });
            await page.locator(".experts-side").waitFor();
          }
          if (name === "engine") await page.locator("text=Memory by arena").waitFor();
          // The policy of the pages keeps scripts out: this one comes through the debugger.
          await page.evaluate(axe);
          const found = await page.evaluate(async () => {
            const { violations } = await window.axe.run(document, { resultTypes: ["violations"] });
            return violations.flatMap((v) => v.nodes.map((node) => `${v.id}: ${node.target.join(" ")}: ${node.failureSummary?.split("\n")[1] ?? ""}`));
          });
          ok(found.length === 0, `${name}, ${dark ? "dark" : "light"}, ${size[0]}: ${found.join("\n")}`);
          const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
          ok(over <= 0, `${name} at ${size[0]} is ${over} pixels wider than its window`);
          await page.context().close();
        }
      }
    }
  });

  await check("everything is reached by keyboard", async () => {
    const page = await open(url + "/ui/experts");
    await live(page);
    const reached = new Set();
    for (let n = 0; n < 40; n++) {
      await page.keyboard.press("Tab");
      reached.add(
        await page.evaluate(() => {
          const at = document.activeElement;
          return at?.className === "map-field" ? "map" : (at?.textContent || at?.getAttribute("aria-label") || "").slice(0, 20);
        }),
      );
    }
    for (const want of ["Chat", "Experts", "Engine", "Recent", "Save data", "map"]) ok(reached.has(want), `${want} is not among ${[...reached].join(", ")}`);
  });

  await check("nothing jumps while a page fills", async () => {
    for (const name of PAGES) {
      const page = await open(`${url}/ui/${name}`);
      await live(page);
      const wide = await complete(url, { max_tokens: 20 });
      ok(wide.tokens.length === 20, "a stream");
      await page.waitForTimeout(800);
      const shift = await page.evaluate(
        () =>
          new Promise((done) => {
            let sum = 0;
            new PerformanceObserver((list) => list.getEntries().forEach((one) => (sum += one.value))).observe({ type: "layout-shift", buffered: true });
            setTimeout(() => done(sum), 100);
          }),
      );
      evidence(`layout shift of ${name}`, Number(shift.toFixed(4)), "score", "<=", 0.1);
      await page.context().close();
    }
  });

  await check("without a model, and without a server, the pages say what is the matter", async () => {
    const between = await proxy(url);
    const page = await open(between.url + "/ui/engine", { expected: ["WebSocket", "ERR_"] });
    await live(page);
    await page.locator("text=Memory by arena").waitFor();
    between.refuse(true);
    between.cut();
    await page.locator(".state >> text=Not connected").waitFor();
    await page.click("nav >> text=Chat");
    await page.locator("text=The server cannot be reached").waitFor();
    await say(page, "Hello");
    await page.locator(".answer .notice.bad >> text=Is it running?").waitFor();
    between.refuse(false);
    await live(page);
    await page.click("text=Again");
    const answer = await answered(page);
    ok((await answer.locator(".notice.bad").count()) === 0, "the answer after the server is back");
    between.close();
  });

  await check("links lead to the same view, back and forth", async () => {
    const page = await open(url + "/ui/experts?mode=all&expert=3.7");
    await live(page);
    await page.locator("text=Layer 3, expert 7").first().waitFor();
    await page.click("nav >> text=Engine");
    ok(page.url().endsWith("/ui/engine"), page.url());
    await page.goBack();
    await page.locator("text=Layer 3, expert 7").first().waitFor();
    ok((await page.getAttribute("button:text-is('All')", "aria-pressed")) === "true", "all tokens are shown");
  });

  await check("addresses with nonsense show a page all the same", async () => {
    for (const path of [
      "experts?stream=abc&beside=-3&mode=zzz&back=1e9&expert=999.999",
      "experts?stream=99999&beside=99998&mode=token&back=-5&expert=__proto__",
      "chat?temperature=hot&top_k=1e400&params=%7B&script=%00&mark=%3Cb%3E",
      "nowhere/at/all?x=1",
      "%3Cscript%3E",
    ]) {
      const page = await open(`${url}/ui/${path}`);
      await live(page);
      await page.waitForTimeout(300);
      ok((await page.locator("main").textContent()).length > 20, `${path} is empty`);
      await page.click("nav >> text=Engine");
      await page.locator("text=Memory by arena").waitFor();
    }
  });
}
