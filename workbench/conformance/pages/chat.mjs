// The page Chat.
import { answered, check, equal, live, ok, open, say, serve, sleep, stop, until } from "./harness.mjs";

export async function chat(url) {
  await check("chat streams", async () => {
    const page = await open(url + "/ui/chat?pace=60&max_tokens=60&temperature=0");
    await live(page);
    await say(page, "Tell me a story about a fox.");
    const lengths = new Set();
    while ((await page.locator(".answer").getAttribute("aria-busy").catch(() => "true")) === "true") {
      lengths.add((await page.locator(".answer .text").textContent().catch(() => "")).length);
      await sleep(50);
    }
    ok(lengths.size >= 6, `the answer was seen at ${lengths.size} lengths`);
    equal(await page.locator(".answer [data-at]").count(), 60, "tokens that can be pointed at");
    ok((await page.locator(".answer footer").textContent()).includes("60 tokens"), "the foot of the answer");
    const whole = await page.locator(".answer .text").textContent();
    ok(whole.startsWith("Once upon a time") || whole.length > 100, whole);
  });

  await check("stop, edit and send again, again, new chat", async () => {
    const page = await open(url + "/ui/chat?pace=15");
    await live(page);
    await say(page, "Tell me a story about a fox.");
    await until("some tokens", async () => (await page.locator(".answer [data-at]").count()) > 4);
    await page.getByRole("button", { name: "Stop" }).click();
    const answer = await answered(page);
    ok((await answer.textContent()).includes("stopped"), "it says that it was stopped");
    const kept = await answer.locator("[data-at]").count();
    await sleep(300);
    equal(await answer.locator("[data-at]").count(), kept, "tokens after the stop");
    await page.fill('label:has-text("Pace") input', "");
    await page.fill('label:has-text("Most tokens") input', "12");
    await page.getByRole("button", { name: "Edit" }).click();
    await page.fill("textarea[aria-label='Edit the message']", "What is 2 + 3?");
    await page.getByRole("button", { name: "Send again" }).click();
    await answered(page);
    equal(await page.locator(".turn").count(), 2, "turns");
    equal(await page.locator(".said p").textContent(), "What is 2 + 3?", "what was said");
    await page.getByRole("button", { name: "Again" }).click();
    await answered(page);
    equal(await page.locator(".turn").count(), 2, "turns after an answer was made again");
    await page.getByRole("button", { name: "New chat" }).click();
    equal(await page.locator(".turn").count(), 0, "turns of a new chat");
  });

  await check("a token says what else it could have been, and what changed it", async () => {
    const page = await open(url + "/ui/chat?temperature=0&max_tokens=8&script=forbid");
    await live(page);
    await say(page, "Tell me a story about a fox.");
    const answer = await answered(page);
    await answer.locator("[data-at]").first().hover();
    const tip = page.locator(".token-tip");
    await tip.waitFor();
    const text = await tip.textContent();
    ok((await tip.locator("tr").count()) === 8, "eight candidates");
    ok(/log-probability -?\d/.test(text), text);
    ok(text.includes("forbid edited the logits; without it there would be"), text);
    // The same without a pointer.
    await page.mouse.move(2, 400);
    await answer.locator(".text").focus();
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("ArrowRight");
    await tip.waitFor();
    await page.keyboard.press("Escape");
    await tip.waitFor({ state: "detached" });
    // What a script put there is told apart.
    await page.selectOption('label:has-text("Script") select', "markup");
    await page.selectOption('label:has-text("Mark tokens") select', "changes");
    await page.fill('label:has-text("Most tokens") input', "80");
    await say(page, "And then?");
    const next = await answered(page);
    ok((await next.locator(".forced").count()) > 0, "tokens that are marked as put there");
    await next.locator(".forced").first().hover();
    ok((await tip.textContent()).includes("markup put it there"), await tip.textContent());
  });

  await check("settings are in the address, and bounded", async () => {
    const page = await open(url + "/ui/chat?temperature=0&script=entropy-min-p&params=" + encodeURIComponent('{"floor":"0.2"}') + "&max_tokens=5&seed=7");
    await live(page);
    equal(await page.inputValue('label:has-text("Temperature") input'), "0", "temperature");
    await page.locator('label.param[title*="sure"] input').waitFor();
    equal(await page.inputValue('label.param[title*="sure"] input'), "0.2", "a parameter of the script");
    const sent = page.waitForRequest((request) => request.url().endsWith("/v1/chat/completions"));
    await say(page, "Hello");
    const body = JSON.parse((await sent).postData());
    equal([body.temperature, body.seed, body.max_tokens, body.roundhouse.script, body.roundhouse.params], [0, 7, 5, "entropy-min-p", { floor: 0.2 }], "the request");
    await answered(page);
    await page.fill('label:has-text("Temperature") input', "9");
    equal(await page.getAttribute('label:has-text("Temperature") input', "aria-invalid"), "true", "a temperature of 9");
    await page.fill('label:has-text("Temperature") input', "1.5");
    await until("the address", () => page.url().includes("temperature=1.5"));
    await page.click("nav >> text=Engine");
    await page.click("nav >> text=Chat");
    ok(page.url().includes("temperature=1.5") && (await page.locator(".answer").count()) === 1, "another page and back keeps chat and settings");
    await page.reload();
    await live(page);
    equal(await page.inputValue('label:has-text("Temperature") input'), "1.5", "temperature after a reload");
  });

  await check("thoughts are folded", async () => {
    const page = await open(url + "/ui/chat");
    await live(page);
    const chunk = (delta, token) => `data: ${JSON.stringify({ choices: [{ index: 0, delta, logprobs: { content: [{ token, logprob: -1, bytes: null, top_logprobs: [] }] }, finish_reason: null, roundhouse: { tokens: [{ id: 1 }] } }] })}\n\n`;
    await page.route("**/v1/chat/completions", (route) =>
      route.fulfill({ contentType: "text/event-stream", body: chunk({ reasoning_content: "Let me " }, "Let me ") + chunk({ reasoning_content: "see." }, "see.") + chunk({ content: "Five." }, "Five.") + "data: [DONE]\n\n" }),
    );
    await say(page, "What is 2 + 3?");
    const answer = await answered(page);
    ok((await answer.locator("summary").textContent()).startsWith("Thought 2 tokens"), await answer.textContent());
    ok(!(await answer.textContent()).includes("Let me"), "the thought is not shown");
    await answer.locator("summary").click();
    await answer.locator("text=Let me see.").waitFor();
    equal(await answer.locator(".text").last().textContent(), "Five.", "the answer");
  });

  await check("errors say what to do", async () => {
    const page = await open(url + "/ui/chat?script=nowhere", { expected: ["404"] });
    await live(page);
    await say(page, "Hello");
    const answer = await answered(page);
    ok((await answer.locator(".notice.bad").textContent()).includes('there is no script "nowhere"'), await answer.textContent());
  });

  await check("a server with a key asks for it", async () => {
    const keyed = await serve("--api-key", "sesame");
    const page = await open(keyed.url + "/ui/", { expected: ["401", "WebSocket"] });
    await page.locator("dialog").waitFor();
    await page.fill("dialog input", "wrong");
    await page.click("dialog button");
    await page.locator("dialog >> text=refused").waitFor();
    await page.fill("dialog input", "sesame");
    await page.click("dialog button");
    await live(page);
    await page.fill('label:has-text("Most tokens") input', "5");
    await say(page, "Hello");
    await answered(page);
    equal(await page.locator(".notice.bad").count(), 0, "refusals");
    await page.context().close();
    await stop(keyed);
  });
}
