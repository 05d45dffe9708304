// How answers are made. What differs from the server's own is in the address of the page.

import { signal } from "@preact/signals";
import type { Param, Script } from "../../api";
import { get } from "../../api";
import { param, set } from "../../frame/url";

/** A setting that is a number; "" leaves it to the server. */
export interface Setting {
  name: string;
  label: string;
  /** Field of the request; "" for one of another place. */
  field: string;
  low: number;
  high: number;
  step: number;
  hint: string;
}

export const SETTINGS: Setting[] = [
  { name: "temperature", label: "Temperature", field: "temperature", low: 0, high: 2, step: 0.1, hint: "the model's" },
  { name: "top_p", label: "Top P", field: "top_p", low: 0, high: 1, step: 0.01, hint: "the model's" },
  { name: "top_k", label: "Top K", field: "top_k", low: 0, high: 1000, step: 1, hint: "the model's" },
  { name: "min_p", label: "Min P", field: "min_p", low: 0, high: 1, step: 0.01, hint: "0" },
  { name: "max_tokens", label: "Most tokens", field: "max_tokens", low: 1, high: 262144, step: 1, hint: "all that fit" },
  { name: "seed", label: "Seed", field: "seed", low: 0, high: 2 ** 53 - 1, step: 1, hint: "drawn" },
  { name: "pace", label: "Pace, tokens/s", field: "", low: 0.1, high: 10000, step: 1, hint: "full speed" },
];

export type Mark = "" | "surprise" | "changes";

export const values = signal<Record<string, string>>({});
export const script = signal("");
/** Parameters of the script, as they were typed; what is not here is its own default. */
export const params = signal<Record<string, string>>({});
export const mark = signal<Mark>("");
/** Not in the address: it may be private. */
export const system = signal("");

export const scripts = signal<Script[] | null>(null);
export const scriptsError = signal("");

/** Takes the settings of the address; where it has none, those of before go there. */
export function enter() {
  const names = SETTINGS.map((one) => one.name);
  const some = [...names, "script", "params", "mark"].some((name) => param(name) !== "");
  if (some) {
    values.value = Object.fromEntries(names.map((name) => [name, valid(name, param(name))]));
    script.value = param("script").slice(0, 128);
    mark.value = (["surprise", "changes"].find((m) => m === param("mark")) ?? "") as Mark;
    try {
      const given: unknown = JSON.parse(param("params") || "{}");
      params.value = Object.fromEntries(Object.entries(given as object).map(([k, v]) => [k, String(v)]));
    } catch {
      params.value = {};
    }
  } else keep();
  if (!scripts.value) load();
}

/** Puts the settings into the address. */
export function keep() {
  set({ ...values.value, script: script.value, params: Object.keys(params.value).length > 0 ? JSON.stringify(params.value) : "", mark: mark.value });
}

/** Asks which scripts there are. */
function load() {
  get<{ scripts: Script[] }>("/roundhouse/v1/scripts").then(
    (reply) => {
      scripts.value = reply.scripts.filter((one) => !one.no_script);
      scriptsError.value = "";
    },
    (e: Error) => (scriptsError.value = e.message),
  );
}

/** A text where it is a number within bounds; "" otherwise. */
export function valid(name: string, text: string): string {
  const of = SETTINGS.find((one) => one.name === name);
  const n = Number(text);
  return of && text.trim() !== "" && n >= of.low && n <= of.high ? text.trim() : "";
}

/** The system message, and the request's own fields. */
export function sampling(): { system: string; fields: Record<string, number> } {
  const fields: Record<string, number> = {};
  for (const { name, field } of SETTINGS) {
    const value = valid(name, values.value[name] ?? "");
    if (field && value !== "") fields[field] = Number(value);
  }
  return { system: system.value.trim(), fields };
}

/** The field of hooks. */
export function roundhouse(): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  const pace = valid("pace", values.value["pace"] ?? "");
  if (pace !== "") out["pace"] = Number(pace);
  if (script.value) {
    out["script"] = script.value;
    const declared = scripts.value?.find((one) => one.name === script.value)?.params ?? {};
    const given = Object.entries(params.value).filter(([name, text]) => declared[name] && text !== "");
    if (given.length > 0) out["params"] = Object.fromEntries(given.map(([name, text]) => [name, typed(declared[name]!, text)]));
  }
  return out;
}

/** A parameter's value of what was typed. */
function typed(of: Param, text: string): unknown {
  if (of.type === "number" || of.type === "integer") return Number(text);
  if (of.type === "boolean") return text === "true";
  return text;
}
