// Numbers and texts as people read them.

export const whole = (n: number) => Math.round(n).toLocaleString("en");

/** So many things: the word has an s for all but one. */
export const counted = (n: number, word: string) => `${whole(n)} ${word}${n === 1 ? "" : "s"}`;

export const percent = (share: number) => (share === 0 || share >= 0.0995 ? (share * 100).toFixed(0) : share >= 0.00995 ? (share * 100).toFixed(1) : (share * 100).toFixed(2)) + " %";

export function seconds(s: number): string {
  if (s === 0) return "0";
  if (s < 1e-3) return (s * 1e6).toFixed(0) + " µs";
  if (s < 1) return (s * 1e3).toFixed(s < 0.0995 ? 2 : 0) + " ms";
  return s.toFixed(1) + " s";
}

export function bytes(n: number): string {
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]] as const) if (n >= size) return (n / size).toFixed(n >= 100 * size ? 0 : 1) + " " + unit;
  return n + " B";
}

/** The text of a token where it must be seen: spaces and line ends too. */
export const visible = (text: string) => (text === "" ? "(no text)" : text.replace(/ /g, "·").replace(/\n/g, "↵").replace(/\t/g, "→").replace(/\r/g, "␍"));
