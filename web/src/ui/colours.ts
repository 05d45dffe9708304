// Colour scales that everybody can read: lightness alone carries the value, so that they hold
// for all kinds of colour blindness and in grey.

const SCALES = {
  // From the ground of the page to what stands out most on it.
  dark: ["#18202b", "#1b3a63", "#1c6394", "#2f93a6", "#86c98e", "#fff1a8"],
  light: ["#f3f5f8", "#cfe0f0", "#8fbada", "#4889bd", "#1c5690", "#08264f"],
};

function bytes(hex: string): [number, number, number] {
  const n = parseInt(hex.slice(1), 16);
  return [n >> 16, (n >> 8) & 255, n & 255];
}

const made = new Map<boolean, Uint32Array>();

/** 256 colours from nothing to most, as a canvas has its pixels (little end first: ABGR). */
export function scale(dark: boolean): Uint32Array {
  let table = made.get(dark);
  if (!table) {
    const stops = SCALES[dark ? "dark" : "light"].map(bytes);
    table = new Uint32Array(256);
    for (let n = 0; n < 256; n++) {
      const at = (n / 255) * (stops.length - 1);
      const [low, high] = [stops[Math.floor(at)]!, stops[Math.ceil(at)]!];
      const mix = (c: 0 | 1 | 2) => Math.round(low[c] + (high[c] - low[c]) * (at % 1));
      table[n] = ((255 << 24) | (mix(2) << 16) | (mix(1) << 8) | mix(0)) >>> 0;
    }
    made.set(dark, table);
  }
  return table;
}

/** The same as a colour of CSS. */
export function colour(dark: boolean, n: number): string {
  const c = scale(dark)[Math.max(0, Math.min(255, Math.round(n * 255)))]!;
  return `rgb(${c & 255} ${(c >> 8) & 255} ${(c >> 16) & 255})`;
}

/** Where a value lies on the scale: shares are small, and their root shows differences. */
export const toScale = (value: number, top: number) => Math.sqrt(Math.max(0, Math.min(1, value / top)));

/** Kinds of things, after Okabe and Ito: told apart by everybody, on both grounds. */
const KINDS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b3a100", "#7f7f7f"];
export const kind = (n: number) => KINDS[n % KINDS.length]!;

/** The next larger round number: the end of a scale does not flicker. */
export function round(value: number): number {
  if (!(value > 0)) return 1e-3;
  const power = 10 ** Math.floor(Math.log10(value));
  for (const n of [1, 1.5, 2, 3, 4, 5, 6, 8, 10]) if (value <= n * power * 1.0001) return n * power;
  return 10 * power;
}
