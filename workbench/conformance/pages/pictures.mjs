// Pictures of the pages for the handbook: light, dark, narrow.
import { join } from "node:path";
import { answered, check, complete, feed, live, open, pictures, say, stop, until } from "./harness.mjs";

export async function shoot(url) {
  await check("pictures", async () => {
    const take = (page, name) => page.screenshot({ path: join(pictures, name + ".png"), animations: "disabled" });
    const looks = [["light", {}], ["dark", { dark: true }], ["narrow", { size: [390, 844] }]];
    for (const [look, options] of looks) {
      const page = await open(url + "/ui/chat?temperature=0.9&seed=5&script=entropy-min-p&mark=surprise", options);
      await live(page);
      if (look === "narrow") await page.click(".panel summary");
      await say(page, "Tell me a story about a brave rabbit and a lantern.");
      const answer = await answered(page);
      if (look === "narrow") await page.evaluate(() => document.querySelector(".panel details")?.removeAttribute("open"));
      await answer.locator(".odd2, .odd3, .odd1").nth(2).hover();
      await take(page, `chat-${look}`);
      await page.context().close();
    }
    const server = await feed("-rate", "400", "-streams", "3", "-life", "400");
    for (const [look, options] of looks) {
      const page = await open(server.url + "/ui/experts?expert=20.310", options);
      await live(page);
      await page.waitForTimeout(5500); // streams that begin while it looks
      await take(page, `experts-${look}`);
      await page.context().close();
    }
    await stop(server);
    {
      const page = await open(url + "/ui/experts?mode=all", { dark: true });
      await live(page);
      await Promise.all([complete(url, { max_tokens: 150 }, "story"), complete(url, { max_tokens: 150, prompt: "def add(a, b):" }, "code")]);
      await until("both", async () => (await page.locator("label:has-text('Stream') select option").allTextContents()).filter((t) => /story|code/.test(t)).length >= 2);
      const of = async (name) => page.locator("label:has-text('Stream') select option", { hasText: name }).first().getAttribute("value");
      await page.selectOption("label:has-text('Stream') select", await of("story"));
      await page.selectOption("label:has-text('Side by side') select", await of("code"));
      await page.locator(".overlap i").first().waitFor();
      await page.waitForTimeout(500);
      await take(page, "experts-two");
      await page.context().close();
    }
    for (const [look, options] of looks) {
      const page = await open(url + "/ui/engine", options);
      await live(page);
      const replies = Promise.all([1, 2, 3].map((seed) => complete(url, { max_tokens: 260, seed, roundhouse: { pace: 60, script: "entropy-min-p" } })));
      await page.waitForTimeout(3500);
      await take(page, `engine-${look}`);
      await replies;
      await page.context().close();
    }
  });
}
