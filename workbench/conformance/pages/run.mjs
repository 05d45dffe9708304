// The pages in a real browser, against real servers.
import { check, end, equal, problems, serve } from "./harness.mjs";
import { chat } from "./chat.mjs";
import { craft } from "./craft.mjs";
import { experts } from "./experts.mjs";
import { engine } from "./engine.mjs";
import { load } from "./load.mjs";
import { hostile } from "./hostile.mjs";
import { shoot } from "./pictures.mjs";

const server = await serve("--scripts", process.env.ROUNDHOUSE_PAGES_SCRIPTS);
await chat(server.url);
await experts(server.url);
await engine(server.url);
await craft(server.url);
await hostile(server.url);
await shoot(server.url);
await load();
await check("no errors in any console, nothing loaded from elsewhere", () => equal(problems, [], "problems"));
await end();
