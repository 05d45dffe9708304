// The state of the pages is in their address: a link shows what its sender saw.

import { computed, signal } from "@preact/signals";

const BASE = "/ui/";

const href = signal(location.pathname + location.search);

addEventListener("popstate", () => (href.value = location.pathname + location.search));

const url = computed(() => new URL(href.value, location.origin));

/** The page's name, the first part of its path. */
export const page = computed(() => {
  const path = url.value.pathname;
  return path.startsWith(BASE) ? (path.slice(BASE.length).split("/")[0] ?? "") : "";
});

/** What the address says of a name; "" for nothing. */
export function param(name: string): string {
  return url.value.searchParams.get(name) ?? "";
}

/** The address of a page with other parameters. */
export function link(to: string, params: Record<string, string> = {}): string {
  const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value !== "")).toString();
  return BASE + to + (query && "?" + query);
}

/** Goes to an address of the pages. */
export function go(to: string) {
  if (to === href.value) return;
  history.pushState(null, "", to);
  href.value = to;
}

/** Changes parameters of the address; "" takes one away. What a person can go back to is pushed. */
export function set(patch: Record<string, string>, push = false) {
  const query = new URLSearchParams(url.value.search);
  for (const [name, value] of Object.entries(patch)) value === "" ? query.delete(name) : query.set(name, value);
  const text = query.toString();
  const to = url.value.pathname + (text && "?" + text);
  if (to === href.value) return;
  push ? history.pushState(null, "", to) : history.replaceState(null, "", to);
  href.value = to;
}
