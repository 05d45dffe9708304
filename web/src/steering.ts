// Steering of experts, as the API's field steer has it, and what is done to it here.

import { signal } from "@preact/signals";

/** What is done to the experts of a layer. */
export interface LayerSteer {
  ban?: number[];
  force?: number[];
  bias?: { [expert: string]: number };
  scale?: { [expert: string]: number };
}

export interface Steer {
  layers?: { [layer: string]: LayerSteer };
}

export type Kind = keyof LayerSteer;

/** What is done to one expert. */
export interface Done {
  kind: Kind;
  /** Of bias and scale. */
  value: number;
}

/** Reads what the server says of a stream's steering. What is of another form is left out. */
export function read(what: unknown): Steer {
  const object = (v: unknown) => (typeof v === "object" && v !== null && !Array.isArray(v) ? Object.entries(v) : []);
  const whole = (v: unknown) => Number.isInteger(Number(v)) && Number(v) >= 0;
  const layers: { [layer: string]: LayerSteer } = {};
  for (const [layer, of] of object((what as Steer | null)?.layers)) {
    const out: LayerSteer = {};
    for (const [kind, value] of object(of)) {
      if ((kind === "ban" || kind === "force") && Array.isArray(value)) out[kind] = value.filter(whole).map(Number);
      if (kind === "bias" || kind === "scale") out[kind] = Object.fromEntries(object(value).filter(([expert, n]) => whole(expert) && Number.isFinite(n)));
    }
    if (whole(layer)) layers[layer] = out;
  }
  return Object.keys(layers).length > 0 ? { layers } : {};
}

/** All experts that something is done to, by "layer.expert". */
export function listed(steer: Steer): Map<string, Done> {
  const out = new Map<string, Done>();
  for (const [layer, of] of Object.entries(steer.layers ?? {})) {
    const note = (expert: number | string, kind: Kind, value: number) => out.set(layer + "." + expert, { kind, value });
    for (const [expert, value] of Object.entries(of.scale ?? {})) note(expert, "scale", value);
    for (const [expert, value] of Object.entries(of.bias ?? {})) note(expert, "bias", value);
    for (const expert of of.force ?? []) note(expert, "force", 0);
    for (const expert of of.ban ?? []) note(expert, "ban", 0);
  }
  return out;
}

/** The same steering with something else done to one expert; null for nothing. */
export function changed(steer: Steer, layer: number, expert: number, done: Done | null): Steer {
  const layers: { [layer: string]: LayerSteer } = structuredClone(steer.layers ?? {});
  const of = (layers[layer] ??= {});
  of.ban = of.ban?.filter((n) => n !== expert);
  of.force = of.force?.filter((n) => n !== expert);
  for (const values of [of.bias, of.scale]) if (values) delete values[expert];
  if (done?.kind === "ban" || done?.kind === "force") of[done.kind] = [...(of[done.kind] ?? []), expert].sort((a, b) => a - b);
  else if (done) of[done.kind] = { ...of[done.kind], [expert]: done.value };
  for (const kind of ["ban", "force", "bias", "scale"] as const) {
    const list = of[kind];
    if (!list || Object.keys(list).length === 0) delete of[kind];
  }
  if (Object.keys(of).length === 0) delete layers[layer];
  return Object.keys(layers).length === 0 ? {} : { ...steer, layers };
}

export const isEmpty = (steer: Steer) => listed(steer).size === 0;

/** Steering that new chats of this page begin with. */
export const carried = signal<Steer>({});
