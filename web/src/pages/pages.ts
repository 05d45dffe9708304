// A page is a folder here whose index.tsx exports one: nothing else names it.

import type { ComponentType } from "preact";

export interface Page {
  /** In the address. */
  name: string;
  title: string;
  /** Its place in the row, from the left. */
  place: number;
  View: ComponentType;
}

const found = import.meta.glob<{ default: Page }>("./*/index.tsx", { eager: true });

export const pages: Page[] = Object.values(found)
  .map((one) => one.default)
  .sort((a, b) => a.place - b.place);
