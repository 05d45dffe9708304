// What must neither break a page nor run in it.
import { answered, check, counts, equal, evidence, feed, live, ok, open, say, stop, until } from "./harness.mjs";

export async function hostile(url) {
  await check("markup in what people and the model say is text", async () => {
    const page = await open(url + "/ui/chat?script=markup&max_tokens=80&temperature=0", { expected: ["Executing inline script violates"] });
    await live(page);
    const evil = `<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>`;
    await say(page, evil);
    const answer = await answered(page);
    equal(await page.locator(".said p").textContent(), evil, "what was said");
    const text = await answer.locator(".text").textContent();
    ok(text.includes("<script>window.pwned=1</script>") && text.includes("<img src=x onerror="), text);
    await answer.locator("[data-at]").first().hover();
    for (const name of ["Experts", "Engine"]) {
      await page.click(`nav >> text=${name}`);
      await page.waitForTimeout(600);
    }
    equal(await page.evaluate(() => [window.pwned ?? null, document.querySelectorAll("main script, main img").length]), [null, 0], "what was executed");
    // And nothing could be: the policy refuses a script that somebody got into the page.
    await page.evaluate(() => {
      const script = document.createElement("script");
      script.textContent = "window.pwned = 2";
      document.body.append(script);
    });
    equal(await page.evaluate(() => window.pwned ?? null), null, "an inline script");
  });

  await check("hostile frames and messages break nothing and run nothing", async () => {
    const server = await feed("-hostile");
    for (const name of ["experts", "engine", "chat"]) {
      const page = await open(`${server.url}/ui/${name}?mode=all`);
      await live(page);
      await until("what is good among them", async () => (await counts(page)).frames >= 51);
      const { broken, frames } = await counts(page);
      ok(broken >= 28, `${broken} messages that could not be read`);
      if (name === "experts") {
        await until("the map", async () => (await page.locator(".experts-maps header").first().textContent()).includes("51 tokens"));
        await page.locator(".map-field").click({ position: { x: 20, y: 20 } });
        await page.locator(".words li").first().waitFor();
        evidence(`hostile messages refused, while ${frames} frames are shown`, broken, "messages", ">=", 28);
      }
      equal(await page.evaluate(() => [window.pwned ?? null, document.querySelectorAll("main script, main img").length]), [null, 0], "what was executed");
      await page.click("nav >> text=Engine");
      await page.click("nav >> text=Experts");
      ok((await page.locator(".map-field").count()) === 1, "the page still works");
      await page.context().close();
    }
    await stop(server);
  });
}
