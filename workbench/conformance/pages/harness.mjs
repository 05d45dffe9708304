// What the tests of the pages stand on: servers, a browser, and lines that say PASS or FAIL.
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import net from "node:net";
import { join } from "node:path";
import { mkdirSync, readFileSync, readdirSync } from "node:fs";

/** Folders and programs, as run.sh gives them. */
export const root = process.env.ROUNDHOUSE_ROOT;
const need = createRequire(join(process.env.ROUNDHOUSE_PAGES_MODULES, "x.js"));
const { chromium } = need("playwright-core");
export const axe = readFileSync(need.resolve("axe-core/axe.min.js"), "utf8");

const running = [];
let failed = 0;

/** Runs one test, and says how it went. */
export async function check(name, test) {
  const only = process.env.ROUNDHOUSE_PAGES_ONLY;
  if (only && !name.includes(only)) return;
  try {
    await test();
    console.log(`PASS pages ${name}`);
  } catch (error) {
    failed++;
    console.log(`FAIL pages ${name}: ${error.stack ?? error}`);
  }
  for (const context of browser.contexts()) await context.close();
}

/** What was measured, in the form that `make evidence` reads and judges. */
export function measured(name, value, unit, sign, bound) {
  console.log(`pages: evidence: ${name}: ${value} ${unit} ${sign} ${bound}`);
}

/** The same of what does not depend on how fast the machine is: it must keep to its bound. */
export function evidence(name, value, unit, sign, bound) {
  measured(name, value, unit, sign, bound);
  const kept = { "<=": value <= bound, ">=": value >= bound }[sign];
  if (!kept) throw new Error(`${name}: ${value} ${unit}, want ${sign} ${bound}`);
}

export function equal(got, want, what) {
  const [a, b] = [JSON.stringify(got), JSON.stringify(want)];
  if (a !== b) throw new Error(`${what}: ${a}, want ${b}`);
}

export function ok(value, what) {
  if (!value) throw new Error(what);
}

/** Waits until something is so, and returns it. */
export async function until(what, is, patience = 15_000) {
  const began = Date.now();
  for (;;) {
    const value = await is();
    if (value) return value;
    if (Date.now() - began > patience) throw new Error(`${what}: not within ${patience} ms`);
    await sleep(25);
  }
}

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** Starts a program that prints its address; resolves to that. */
function start(program, args) {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
  running.push(child);
  return new Promise((resolve, reject) => {
    let out = "";
    let err = "";
    child.stderr.on("data", (data) => (err = (err + data).slice(-4000)));
    child.on("exit", (code) => reject(new Error(`${program} ended with ${code}: ${err}`)));
    child.stdout.on("data", (data) => {
      out += data;
      const url = /http:\/\/127\.0\.0\.1:\d+/.exec(out);
      if (url) resolve({ url: url[0], child });
    });
  });
}

/** A server with the demo model, ready to answer. */
export async function serve(...flags) {
  const server = await start(process.env.ROUNDHOUSE_BIN, ["serve", "--listen", "127.0.0.1:0", "--log-level", "warn", ...flags]);
  await until("the server's model", async () => (await fetch(server.url + "/health").catch(() => null))?.status === 200, 60_000);
  return server;
}

/** The made-up feed. */
export const feed = (...flags) => start(process.env.ROUNDHOUSE_FEED, flags);

export function stop({ child }) {
  child.removeAllListeners("exit");
  return new Promise((done) => {
    child.once("exit", done);
    child.kill();
  });
}

export const browser = await chromium.launch({ executablePath: process.env.ROUNDHOUSE_CHROMIUM, args: ["--no-sandbox", "--js-flags=--expose-gc"] });

/** Problems that a page has told of: errors, refused loads, broken policy. */
export const problems = [];

/** Opens a page, whose problems are noted; expected ones are left out. */
export async function open(url, { size = [1440, 900], dark = false, expected = [] } = {}) {
  const context = await browser.newContext({ viewport: { width: size[0], height: size[1] }, colorScheme: dark ? "dark" : "light", acceptDownloads: true });
  const page = await context.newPage();
  const note = (text) => expected.some((one) => text.includes(one)) || problems.push(`${url}: ${text}`);
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && note(message.text()));
  page.on("pageerror", (error) => note(error.message));
  page.on("request", (request) => {
    const to = new URL(request.url());
    if (!["127.0.0.1", ""].includes(to.hostname)) note(`a request to ${request.url()}`);
  });
  await page.goto(url);
  return page;
}

/** Waits until the page's connection is live. */
export const live = (page) => page.waitForFunction(() => document.querySelector(".state")?.textContent?.startsWith("Live"));

/** What the page says of its connection. */
export const counts = (page) =>
  page.evaluate(() => {
    const { frames, dropped, broken, resumed } = document.querySelector(".state").dataset;
    return { frames: +frames, dropped: +dropped, broken: +broken, resumed: +resumed };
  });

/** Says something in the chat. */
export async function say(page, text) {
  await page.fill("textarea[aria-label=Message]", text);
  await page.press("textarea[aria-label=Message]", "Enter");
}

/** The last answer of the chat, once it is complete. */
export async function answered(page) {
  await page.waitForFunction(() => {
    const all = document.querySelectorAll(".answer");
    return all.length > 0 && all[all.length - 1].getAttribute("aria-busy") === "false";
  });
  return page.locator(".answer").last();
}

/** A completion with its routing, beside the pages: what they show is compared with it. */
export async function complete(url, fields, id = "test-" + Math.random().toString(36).slice(2, 10), headers = {}) {
  const reply = await fetch(url + "/v1/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Request-Id": id, ...headers },
    body: JSON.stringify({ model: "demo", prompt: "Once upon a time", max_tokens: 40, ignore_eos: true, temperature: 0.8, ...fields, roundhouse: { return: ["routing"], ...fields.roundhouse } }),
  });
  const body = await reply.json();
  if (!reply.ok) throw new Error(JSON.stringify(body));
  return { id, tokens: body.choices[0].roundhouse.tokens, text: body.choices[0].text };
}

/** A proxy whose connections can be cut. */
export async function proxy(target) {
  const { port } = new URL(target);
  const sockets = new Set();
  let closed = false;
  const server = net.createServer((from) => {
    if (closed) return from.destroy();
    const to = net.connect(Number(port), "127.0.0.1");
    for (const one of [from, to]) {
      sockets.add(one);
      one.on("error", () => {});
      one.on("close", () => {
        sockets.delete(one);
        from.destroy();
        to.destroy();
      });
    }
    from.pipe(to);
    to.pipe(from);
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    cut: () => sockets.forEach((one) => one.destroy()),
    refuse: (value) => (closed = value),
    close: () => server.close(),
  };
}

/** Bytes of their own that the browser's processes hold which run pages. */
export function memory() {
  let sum = 0;
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, "utf8");
      if (command.includes("--type=renderer")) sum += Number(/RssAnon:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) * 1024;
    } catch {
      // it has just ended
    }
  }
  return sum;
}

/** Where pictures go: the handbook, or nowhere worth keeping. */
export const pictures = process.env.ROUNDHOUSE_PICTURES || join(root, ".cache", "conformance", "pictures");
mkdirSync(pictures, { recursive: true });

/** Ends everything, and says how it went. */
export async function end() {
  await browser.close();
  for (const child of running) {
    child.removeAllListeners("exit");
    child.kill();
  }
  process.exit(failed > 0 ? 1 : 0);
}
