// Type-checks scripts and their tests against the types that the engine ships: every one
// of the library, of the benchmark and of what scripts init writes, and every example of
// the handbook that imports "roundhouse". One PASS or FAIL line each.
//
//   node check.mjs ROOT TYPESCRIPT      (run.sh installs the compiler, and calls it)

import { existsSync, readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join, relative } from "node:path";

const [root, compiler] = process.argv.slice(2);
const ts = createRequire(import.meta.url)(compiler);
const folders = ["scripts/library", "scripts/starter/files", "workbench/bench/hooks"].map((folder) => join(root, folder));
const checked = folders.flatMap((folder) => readdirSync(folder).filter((name) => name.endsWith(".ts")).map((name) => join(folder, name)));

// An example stands in the folder where what it imports is, and keeps its lines: what is
// wrong with it is found in its page.
const home = (code) => {
  const imported = code.match(/from "\.\/(.*)"/)?.[1] ?? "";
  return folders.find((folder) => existsSync(join(folder, `${imported}.ts`))) ?? folders[0];
};
const examples = new Map(), pages = new Map();
for (const page of ["README.md", ...readdirSync(join(root, "workbench/docs")).map((name) => `workbench/docs/${name}`)]) {
  if (!page.endsWith(".md")) continue;
  const text = readFileSync(join(root, page), "utf8");
  for (const { 1: code, index } of text.matchAll(/^```ts\n(.*?)^```/gms)) {
    if (!/from "roundhouse(\/test)?"/.test(code)) continue; // a sketch of types
    const line = text.slice(0, index).split("\n").length;
    const name = join(home(code), `${page.replaceAll("/", "-")}-${line}.ts`);
    examples.set(name, "\n".repeat(line) + code);
    pages.set(name, `${page}, example of line ${line}`);
  }
}

const options = {
  noEmit: true, strict: true, types: [], lib: ["lib.es2022.d.ts"],
  target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler,
};
const host = ts.createCompilerHost(options);
const { fileExists, readFile } = host;
host.fileExists = (name) => examples.has(name) || fileExists.call(host, name);
host.readFile = (name) => examples.get(name) ?? readFile.call(host, name);
const program = ts.createProgram([join(root, "scripts/roundhouse.d.ts"), ...checked, ...examples.keys()], options, host);

const wrong = new Map();
for (const d of ts.getPreEmitDiagnostics(program)) {
  const name = d.file?.fileName ?? "the compiler";
  const line = d.file ? d.file.getLineAndCharacterOfPosition(d.start).line + 1 : 0;
  wrong.set(name, [...(wrong.get(name) ?? []), `line ${line}: ${ts.flattenDiagnosticMessageText(d.messageText, "\n  ")}`]);
}
for (const name of new Set([...checked, ...examples.keys(), ...wrong.keys()])) {
  console.log(`${wrong.has(name) ? "FAIL" : "PASS"} types ${pages.get(name) ?? relative(root, name)}`);
  for (const line of wrong.get(name) ?? []) console.log(`  ${line}`);
}
if (checked.length < 10 || examples.size < 1) {
  console.log(`FAIL types: ${checked.length} scripts and ${examples.size} examples are too few: they were not found`);
  process.exit(1);
}
process.exit(wrong.size > 0 ? 1 : 0);
