// What a person takes along: the map as a picture, or what was counted as data.

import { dark } from "../../frame/theme";
import type { Model } from "../../live/protocol";
import { colour } from "../../ui/colours";
import type { MapHandle } from "../../ui/map";

function save(name: string, data: Blob) {
  const anchor = document.createElement("a");
  anchor.href = URL.createObjectURL(data);
  anchor.download = name;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 10_000);
}

const file = (ending: string) => `roundhouse-experts-${new Date().toISOString().slice(0, 19).replace(/[:T]/g, "-")}.${ending}`;

/** Saves the maps with their names and the legend, as a PNG. */
export function savePicture(maps: (MapHandle | null)[], names: string[], unit: string, top: number) {
  const parts = maps.flatMap((map, n) => (map ? [{ canvas: map.canvas, name: names[n]! }] : []));
  const [margin, line] = [24, 28];
  const out = document.createElement("canvas");
  out.width = Math.max(420, ...parts.map((one) => one.canvas.width)) + 2 * margin;
  out.height = parts.reduce((sum, one) => sum + one.canvas.height + line + margin, margin) + line;
  const c = out.getContext("2d")!;
  c.fillStyle = dark.peek() ? "#161d27" : "#ffffff";
  c.fillRect(0, 0, out.width, out.height);
  const text = dark.peek() ? "#e6ebf2" : "#17202b";
  c.textBaseline = "middle";
  let y = margin;
  for (const { canvas, name } of parts) {
    c.fillStyle = text;
    c.font = "600 15px system-ui, sans-serif";
    c.fillText(name, margin, y + line / 2 - 4);
    c.drawImage(canvas, margin, y + line);
    y += canvas.height + line + margin;
  }
  for (let n = 0; n < 160; n++) {
    c.fillStyle = colour(dark.peek(), Math.sqrt(n / 159));
    c.fillRect(margin + 14 + n, y - 4, 1, 10);
  }
  c.fillStyle = text;
  c.font = "12px system-ui, sans-serif";
  c.fillText("0", margin, y + 1);
  c.fillText(`${Number(top.toPrecision(3))}   ${unit}`, margin + 182, y + 1, out.width - margin - 200);
  out.toBlob((data) => data && save(file("png"), data));
}

/** Saves counts and mean weights of every expert, as JSON. */
export function saveData(model: Model, streams: { stream: string; counts: Uint32Array; sums: Float64Array; tokens: number }[]) {
  const rows = <T>(values: ArrayLike<T>) => Array.from({ length: model.layers }, (_, layer) => Array.prototype.slice.call(values, layer * model.experts, (layer + 1) * model.experts) as T[]);
  const data = {
    about: "counts[layer][expert]: tokens that chose the expert; weights: their mean weight in them",
    model,
    streams: streams.map(({ stream, counts, sums, tokens }) => ({
      stream,
      tokens,
      counts: rows(counts),
      weights: rows(Array.from(sums, (sum, n) => (counts[n] ? Number((sum / counts[n]!).toPrecision(6)) : 0))),
    })),
  };
  save(file("json"), new Blob([JSON.stringify(data)], { type: "application/json" }));
}
