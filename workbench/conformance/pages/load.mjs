// A thousand tokens a second of the real shape: the page keeps up, and its memory is bounded.
import { check, counts, evidence, feed, live, measured, memory, ok, open, stop, until } from "./harness.mjs";

const seconds = Number(process.env.ROUNDHOUSE_FEED_SECONDS ?? 15);

export async function load() {
  await check(`1,000 tokens a second of 48 x 512, ${seconds} s`, async () => {
    const server = await feed("-rate", "1000");
    const page = await open(server.url + "/ui/experts?expert=12.40");
    await live(page);
    await until("tokens", async () => (await counts(page)).frames > 2000);
    await page.evaluate(() => {
      window.frames = [];
      const step = (now) => (window.frames.push(now), requestAnimationFrame(step));
      requestAnimationFrame(step);
    });
    const before = { ...(await counts(page)), memory: 0, at: Date.now() };
    const drawn = [];
    let most = 0;
    let early = 0;
    while (Date.now() - before.at < seconds * 1000) {
      await page.waitForTimeout(1000);
      drawn.push(Number(await page.getAttribute("[data-rate]", "data-rate")));
      const now = memory();
      most = Math.max(most, now);
      if (Date.now() - before.at < seconds * 500) early = Math.max(early, now); // the first half
    }
    const times = await page.evaluate(() => window.frames);
    const gaps = times.slice(1).map((t, n) => t - times[n]);
    const fps = (gaps.length * 1000) / (times[times.length - 1] - times[0]);
    const after = await counts(page);
    const took = (Date.now() - before.at) / 1000;
    const rate = (after.frames - before.frames) / took;
    drawn.splice(0, 2);
    drawn.sort((a, b) => a - b);
    console.log(`  ${rate.toFixed(0)} tokens a second came, ${after.dropped} dropped; longest gap between frames ${Math.max(...gaps).toFixed(0)} ms; slowest second drew ${drawn[0]} maps`);
    measured("frames a second of the page", Number(fps.toFixed(1)), "1/s", ">=", 50);
    measured("maps a second", drawn[Math.floor(drawn.length / 2)], "1/s", ">=", 50);
    measured("tokens a second that the page adds up", Math.round(rate), "1/s", ">=", 950);
    measured("frames that were dropped", after.dropped, "frames", "<=", 0);
    evidence("memory of the page's process", Math.round(most / 1e6), "MB", "<=", 400);
    const long = seconds >= 60; // a page that has just begun still grows
    (long ? evidence : measured)("growth in the second half", Math.round((most - early) / 1e6), "MB", "<=", 40);
    ok(gaps.length > seconds * 10, "the page stood still"); // how fast it is, `make evidence` judges
    ok(after.broken === 0, "messages that could not be read");
    await page.context().close();
    await stop(server);
  });
}
