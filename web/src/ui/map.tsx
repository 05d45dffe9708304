import { useEffect, useRef, useState } from "preact/hooks";
import { dark } from "../frame/theme";
import { scale, toScale } from "./colours";
import { Tip } from "./tip";
import "./map.css";

/** A cell of a map. */
export interface Cell {
  layer: number;
  expert: number;
}

/** What somebody did to an expert, which is marked on the map. */
export type Mark = "ban" | "force" | "bias" | "scale";

export interface MapHandle {
  /** Draws values, [layers, experts], on a scale that ends at top. */
  draw(values: Float32Array, top: number): void;
  canvas: HTMLCanvasElement;
  /** Pictures drawn so far. */
  drawn: number;
}

interface Props {
  label: string;
  layers: number;
  experts: number;
  selected: Cell | null;
  marks: Map<string, Mark>;
  /** Says what a cell has, for the tip and for those who do not see the map. */
  describe: (cell: Cell) => string;
  onSelect: (cell: Cell) => void;
  handle: { current: MapHandle | null };
}

export const cellKey = (cell: Cell) => cell.layer + "." + cell.expert;

/** Draws pictures of one pixel a cell, enlarged without smoothing. */
function painter(canvas: HTMLCanvasElement, layers: number, experts: number, drawn: number): MapHandle {
  const context = canvas.getContext("2d", { alpha: false })!;
  const small = document.createElement("canvas");
  [small.width, small.height] = [experts, layers];
  const pixels = small.getContext("2d", { alpha: false })!;
  const image = pixels.createImageData(experts, layers);
  const colours = new Uint32Array(image.data.buffer);
  return {
    canvas,
    drawn,
    draw(values, top) {
      const table = scale(dark.peek());
      for (let n = 0; n < colours.length; n++) colours[n] = table[(toScale(values[n]!, top) * 255) | 0]!;
      pixels.putImageData(image, 0, 0);
      context.imageSmoothingEnabled = false;
      context.drawImage(small, 0, 0, canvas.width, canvas.height);
      this.drawn++;
    },
  };
}

interface Over {
  /** In pixels of the page. */
  width: number;
  height: number;
  layers: number;
  experts: number;
  marks: Map<string, Mark>;
  selected: Cell | null;
  cursor: Cell | null;
}

/** Draws what lies over a picture: lines between few experts, marks, the selected cell, the cursor. */
function paintOver(canvas: HTMLCanvasElement, { width, height, layers, experts, marks, selected, cursor }: Over) {
  const ratio = devicePixelRatio;
  [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
  const c = canvas.getContext("2d")!;
  c.scale(ratio, ratio);
  const style = getComputedStyle(document.documentElement);
  const [text, ground, accent] = ["--text", "--surface", "--accent"].map((name) => style.getPropertyValue(name)) as [string, string, string];
  const [w, h] = [width / experts, height / layers];
  if (w >= 8) {
    c.fillStyle = ground;
    for (let n = 1; n < experts; n++) c.fillRect(Math.round(n * w), 0, 1, height);
    for (let n = 1; n < layers; n++) c.fillRect(0, n * h, width, 1);
  }
  for (const [name, mark] of marks) {
    const [layer, expert] = name.split(".").map(Number) as [number, number];
    const path = sign(mark, expert * w + w / 2, layer * h + h / 2, Math.max(3, Math.min(h, Math.max(w, 7)) / 2 - 1));
    for (const [colour, thick] of [[ground, 3.5], [text, 1.5]] as const) {
      [c.strokeStyle, c.lineWidth] = [colour, thick];
      c.stroke(path);
    }
  }
  const frame = ({ layer, expert }: Cell, colour: string, thick: number, grow: number) => {
    [c.strokeStyle, c.lineWidth] = [colour, thick];
    const wide = Math.max(w, 5);
    c.strokeRect(expert * w + w / 2 - wide / 2 - grow, layer * h - grow, wide + 2 * grow, h + 2 * grow);
  };
  if (selected) frame(selected, ground, 4, 2), frame(selected, text, 2, 2);
  if (cursor) frame(cursor, accent, 2, 1);
}

/** The sign of a mark: a cross, a square, a plus, a circle. */
function sign(mark: Mark, x: number, y: number, r: number): Path2D {
  const path = new Path2D();
  if (mark === "ban") {
    path.moveTo(x - r, y - r), path.lineTo(x + r, y + r), path.moveTo(x + r, y - r), path.lineTo(x - r, y + r);
  } else if (mark === "force") {
    path.rect(x - r, y - r, 2 * r, 2 * r);
  } else if (mark === "bias") {
    path.moveTo(x - r, y), path.lineTo(x + r, y), path.moveTo(x, y - r), path.lineTo(x, y + r);
  } else {
    path.arc(x, y, r, 0, 7);
  }
  return path;
}

/** Where a key leads from the cursor, ten cells at a time with Shift; null for keys that lead nowhere. */
function moved(e: KeyboardEvent, cursor: Cell | null, selected: Cell | null, layers: number, experts: number): Cell | null {
  const far = e.shiftKey ? 10 : 1;
  const steps: Record<string, [number, number]> = {
    ArrowUp: [-far, 0], ArrowDown: [far, 0], ArrowLeft: [0, -far], ArrowRight: [0, far], Home: [0, -experts], End: [0, experts], PageUp: [-layers, 0], PageDown: [layers, 0],
  };
  const step = steps[e.key];
  if (!step) return null;
  if (!cursor) return selected ?? { layer: 0, expert: 0 }; // the first key shows where it is
  const within = (x: number, n: number) => Math.max(0, Math.min(n - 1, x));
  return { layer: within(cursor.layer + step[0], layers), expert: within(cursor.expert + step[1], experts) };
}

/** Layers by experts: what is drawn into its handle, with what lies over it. */
export function ExpertMap({ label, layers, experts, selected, marks, describe, onSelect, handle }: Props) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const over = useRef<HTMLCanvasElement>(null);
  const [cursor, setCursor] = useState<Cell | null>(null);
  const [hover, setHover] = useState<{ cell: Cell; x: number; y: number } | null>(null);
  const [width, setWidth] = useState(0);
  const cellHeight = Math.max(8, Math.min(36, Math.round(480 / layers)));
  const height = cellHeight * layers;

  useEffect(() => {
    const box = canvas.current!.parentElement!;
    const sizes = new ResizeObserver(() => setWidth(box.clientWidth));
    sizes.observe(box);
    setWidth(box.clientWidth);
    return () => sizes.disconnect();
  }, []);

  useEffect(() => {
    const before = handle.current;
    const self = (handle.current = painter(canvas.current!, layers, experts, before?.drawn ?? 0));
    self.draw(new Float32Array(layers * experts), 1);
    return () => {
      if (handle.current === self) handle.current = null;
    };
  }, [layers, experts, width, dark.value]);

  useEffect(() => paintOver(over.current!, { width, height, layers, experts, marks, selected, cursor }), [width, height, layers, experts, marks, selected, cursor, dark.value]);

  const at = (e: MouseEvent): Cell => {
    const box = canvas.current!.getBoundingClientRect();
    const within = (x: number, n: number) => Math.max(0, Math.min(n - 1, Math.floor(x)));
    return { layer: within(((e.clientY - box.top) / box.height) * layers, layers), expert: within(((e.clientX - box.left) / box.width) * experts, experts) };
  };

  const keys = (e: KeyboardEvent) => {
    const to = moved(e, cursor, selected, layers, experts);
    if (to) setCursor(to);
    else if ((e.key === "Enter" || e.key === " ") && cursor) onSelect(cursor);
    else if (e.key === "Escape") setCursor(null);
    else return;
    e.preventDefault();
  };

  const ticks = [];
  const step = layers > 16 ? 8 : 1;
  for (let n = 0; n < layers; n += step) ticks.push(n);
  const columns = [];
  const wide = [1, 2, 4, 8, 16, 32, 64].find((n) => (width / experts) * n >= 26) ?? 64;
  for (let n = 0; n < experts; n += wide) columns.push(n);
  return (
    <div class="map">
      <div class="map-layers" style={{ height: height + "px" }} aria-hidden="true">
        {ticks.map((n) => (
          <span key={n} style={{ top: (n + 0.5) * cellHeight + "px" }}>
            {n}
          </span>
        ))}
      </div>
      <div
        class="map-field"
        style={{ height: height + "px" }}
        role="application"
        aria-label={label + ". Arrow keys move over layers and experts, Enter selects."}
        tabIndex={0}
        onKeyDown={keys}
        onBlur={() => setCursor(null)}
        onPointerMove={(e) => setHover({ cell: at(e), x: e.clientX, y: e.clientY })}
        onPointerLeave={() => setHover(null)}
        onClick={(e) => onSelect(at(e))}
      >
        <canvas ref={canvas} width={Math.max(1, Math.round(width * devicePixelRatio))} height={Math.round(height * devicePixelRatio)} />
        <canvas ref={over} class="map-over" />
        {hover && (
          <Tip x={hover.x} y={hover.y}>
            {describe(hover.cell)}
          </Tip>
        )}
      </div>
      <div class="map-experts" aria-hidden="true">
        {columns.map((n) => (
          <span key={n} style={{ left: ((n + 0.5) / experts) * 100 + "%" }}>
            {n}
          </span>
        ))}
      </div>
      <span class="sr" aria-live="polite">
        {cursor && describe(cursor)}
      </span>
    </div>
  );
}
