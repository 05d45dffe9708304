// The live protocol in TypeScript: it compiles, and reads the frames that Go writes.
//
//   node live.mjs ROOT TYPESCRIPT

import assert from "node:assert";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [root, compiler] = process.argv.slice(2);
const ts = createRequire(import.meta.url)(compiler);
const file = join(root, "web/src/live/protocol.ts");
const program = ts.createProgram([file], { noEmit: true, strict: true, types: [], lib: ["lib.es2022.d.ts", "lib.dom.d.ts"], target: ts.ScriptTarget.ES2022 });
const wrong = ts.getPreEmitDiagnostics(program).map((d) => ts.flattenDiagnosticMessageText(d.messageText, "\n"));
const { outputText } = ts.transpileModule(readFileSync(file, "utf8"), { compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext } });
const { parseTokens } = await import("data:text/javascript;base64," + Buffer.from(outputText).toString("base64"));

const buffer = (hex) => Uint8Array.from(Buffer.from(hex, "hex")).buffer;
try {
  assert.deepEqual(wrong, []);
  const samples = JSON.parse(readFileSync(join(root, "workbench/live/testdata/frames.json"), "utf8"));
  assert.equal(samples.length, 3);
  for (const { hex, ...want } of samples) {
    const { layers, ids, weights, candidates, logprobs, ...rest } = parseTokens(buffer(hex))[0];
    const got = { ...rest, layers: [...layers], ids: [...ids], weights: [...weights], candidates: [...candidates], logprobs: [...logprobs] };
    for (const key of ["layers", "ids", "weights", "candidates", "logprobs"]) want[key] ??= [];
    assert.deepEqual(got, want);
    assert.throws(() => parseTokens(buffer(hex.slice(0, -2))), /frame/);
    assert.throws(() => parseTokens(buffer(hex + "00")), /none of a token/);
  }
  const all = parseTokens(buffer(samples.map(({ hex }) => hex).join("")));
  assert.deepEqual(all.map(({ seq }) => seq), samples.map(({ seq }) => seq));
  assert.throws(() => parseTokens(buffer("00")), /none of a token/);
  console.log("PASS types web/src/live/protocol.ts reads the frames of Go");
} catch (error) {
  console.log(`FAIL types web/src/live/protocol.ts: ${error.message}`);
  process.exit(1);
}
