// Light or dark, as the system has it or as a person chose.

import { computed, effect, signal } from "@preact/signals";

type Choice = "auto" | "light" | "dark";

const KEPT = "roundhouse.theme";
const system = matchMedia("(prefers-color-scheme: dark)");
const systemDark = signal(system.matches);
system.addEventListener("change", () => (systemDark.value = system.matches));

const kept = localStorage.getItem(KEPT);

/** What was chosen. */
export const choice = signal<Choice>(kept === "light" || kept === "dark" ? kept : "auto");

/** Whether the pages are dark now. */
export const dark = computed(() => (choice.value === "auto" ? systemDark.value : choice.value === "dark"));

effect(() => {
  document.documentElement.dataset["theme"] = dark.value ? "dark" : "light";
  if (choice.value === "auto") localStorage.removeItem(KEPT);
  else localStorage.setItem(KEPT, choice.value);
});

/** The next choice, round and round. */
export function next() {
  choice.value = choice.value === "auto" ? "light" : choice.value === "light" ? "dark" : "auto";
}
