import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { dark } from "../frame/theme";
import { kind } from "./colours";
import "./chart.css";

/** A line of a chart. */
export interface Line {
  label: string;
  values: (number | null)[];
  /** Drawn as bars from 0. */
  bars?: boolean;
}

interface Props {
  /** Says what is shown, for those who do not see it. */
  label: string;
  x: number[];
  lines: Line[];
  height?: number;
  /** Writes a value with its unit. */
  format: (value: number) => string;
  formatX?: (value: number) => string;
  /** The least end of the axis of values. */
  least?: number;
  /** The first and the last x that are shown; those of the values where it is left out. */
  span?: [number, number];
}

/** Lines over time or over positions. */
export function Chart({ label, x, lines, height = 160, format, formatX, least = 0, span }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const look = useRef({ format, formatX, least, span });
  look.current = { format, formatX, least, span };
  const shape = lines.map((line) => line.label + (line.bars ?? false)).join() + dark.value + height;
  useEffect(() => {
    const host = box.current!;
    const style = getComputedStyle(document.documentElement);
    const [text, grid] = [style.getPropertyValue("--dim"), style.getPropertyValue("--line")];
    const axis = { stroke: text, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 }, font: "11px system-ui, sans-serif" };
    const made = (plot.current = new uPlot(
      {
        width: Math.max(host.clientWidth, 120),
        height,
        legend: { show: lines.length > 1, live: false },
        cursor: { y: false, points: { show: true } },
        scales: {
          x: { time: false, range: (_, low, high) => look.current.span ?? [low ?? 0, high ?? 1] },
          y: { range: (_, __, high) => [0, Math.max(look.current.least, (high ?? 0) * 1.08) || 1] },
        },
        axes: [
          { ...axis, values: (_, ticks) => ticks.map((n) => (look.current.formatX ?? String)(n)), space: 70, size: 30 },
          { ...axis, size: 52, values: (_, ticks) => ticks.map((n) => look.current.format(n)) },
        ],
        series: [
          {},
          ...lines.map((line, n) => ({
            label: line.label,
            stroke: kind(n),
            width: 1.5,
            points: { show: false },
            ...(line.bars ? { paths: uPlot.paths.bars!({ size: [1, 6] }), fill: kind(n), width: 0 } : {}),
          })),
        ],
      },
      data(x, lines),
      host,
    ));
    const sizes = new ResizeObserver(() => made.setSize({ width: Math.max(host.clientWidth, 120), height }));
    sizes.observe(host);
    return () => {
      sizes.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shape]);
  useEffect(() => plot.current?.setData(data(x, lines)), [x, lines]);
  return <div class="chart" ref={box} role="img" aria-label={label} style={{ height: height + (lines.length > 1 ? 30 : 0) + "px" }} />;
}

const data = (x: number[], lines: Line[]) => [x, ...lines.map((line) => line.values)] as uPlot.AlignedData;
