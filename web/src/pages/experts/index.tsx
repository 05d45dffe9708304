import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { link, param, set } from "../../frame/url";
import { dark } from "../../frame/theme";
import { counted, detail, done, draw, look, model, overlap, pace, running, status, streams, trouble } from "../../live/live";
import type { Picture, View, Watched } from "../../live/messages";
import { EVERYBODY } from "../../live/messages";
import type { Model } from "../../live/protocol";
import { HALF_LIFE, type Mode } from "../../live/tally";
import { listed, read } from "../../steering";
import { Choices } from "../../ui/choices";
import { colour, round } from "../../ui/colours";
import { percent, visible, whole } from "../../ui/format";
import { type Cell, ExpertMap, type MapHandle, cellKey } from "../../ui/map";
import type { Page } from "../pages";
import { Expert } from "./expert";
import { saveData, savePicture } from "./export";
import { Overlap } from "./overlap";
import "./experts.css";

export default { name: "experts", title: "Experts", place: 1, View: Experts } satisfies Page;

const UNITS: { [mode in Mode]: string } = {
  recent: `share of the recent tokens that chose the expert (after ${HALF_LIFE} a token counts half)`,
  token: "weight of the expert in this token",
  all: "share of all tokens that chose the expert",
};

/** The experts at work: a map for one stream, or for two. */
function Experts() {
  const shape = model.value;
  const mode = (["recent", "token", "all"].find((m) => m === param("mode")) ?? "recent") as Mode;
  const back = Math.max(0, Math.floor(Number(param("back")) || 0));
  const newest = streams.value.find((one) => one.routed && one.seen > 0);
  const first = param("stream") === "" ? (newest?.handle ?? EVERYBODY) : Number(param("stream")) || EVERYBODY;
  const second = Number(param("beside")) || -1;
  const selected = cellOf(param("expert"), shape);
  const handles = second > 0 ? [first, second] : [first];
  const maps = [useRef<MapHandle>(null), useRef<MapHandle>(null)];
  const { shown, heads, top, rate } = usePictures(shape, handles, mode, back, maps);

  // What is said beside the map follows four times a second: nobody reads faster.
  const cell = selected ?? { layer: -1, expert: -1 };
  useEffect(() => {
    const ask = () => look(first, cell.layer, cell.expert, second > 0 ? second : EVERYBODY);
    ask();
    const timer = setInterval(ask, 250);
    return () => clearInterval(timer);
  }, [first, second, cell.layer, cell.expert]);

  if (!shape) return <Nothing />;
  const name = (handle: number) => nameOf(handle, streams.value);
  const describe = (n: number) => (at: Cell) => {
    const value = shown.current.find((one) => one.handle === handles[n])?.values[at.layer * shape.experts + at.expert] ?? 0;
    const steered = marksOf(handles[n]!).get(cellKey(at));
    return `Layer ${at.layer}, expert ${at.expert}: ${mode === "token" ? (value > 0 ? "weight " + value.toFixed(3) : "not chosen") : percent(value) + " of tokens"}${steered ? `, ${said[steered.kind]}` : ""}`;
  };
  const select = (at: Cell) => set({ expert: cellKey(at) }, true);
  const kept = heads[0]?.kept ?? 0;
  return (
    <div class="experts" key="experts">
      <h1 class="sr">Experts</h1>
      <div class="experts-tools row">
        <StreamChoice label="Stream" value={param("stream")} streams={streams.value} empty={newest ? "Newest" : "All streams"} onChoose={(value) => set({ stream: value, back: "" }, true)} everybody />
        <StreamChoice label="Side by side with" value={param("beside")} streams={streams.value} empty="None" onChoose={(value) => set({ beside: value, ...(value && param("stream") === "" ? { stream: String(first) } : {}) }, true)} />
        <Choices
          label="What is shown"
          value={mode}
          onChoose={(value) => set({ mode: value === "recent" ? "" : value, back: "" }, true)}
          options={[["recent", "Recent", UNITS.recent], ["token", "Token", UNITS.token], ["all", "All", UNITS.all]]}
        />
        <Pace handle={first} />
        <span class="row experts-save">
          <button onClick={() => savePicture(maps.map((one) => one.current).slice(0, handles.length), handles.map(name), UNITS[mode], top)} disabled={heads.length === 0}>
            Save picture
          </button>
          <button onClick={async () => saveData(shape, await Promise.all(handles.map(async (handle) => ({ stream: name(handle), ...(await counted(handle)) }))))}>Save data</button>
        </span>
      </div>
      {mode === "token" && (
        <Scrub kept={kept} back={back} head={heads[0]} />
      )}
      <div class={"experts-body" + (selected ? " open" : "")}>
        <div class={"experts-maps" + (shape.experts <= 64 && handles.length > 1 && !selected ? " pair" : "")}>
          {handles.map((handle, n) => (
            <section class="card" key={n} aria-label={"Map of " + name(handle)}>
              <header>
                <h2>{name(handle)}</h2>
                <span class="unit">
                  {whole(heads[n]?.tokens ?? 0)} tokens{heads[n]?.tokens ? ", at " : ""}
                  {heads[n]?.tokens ? <code>{visible(heads[n]!.text)}</code> : ""}
                </span>
                <StreamState stream={streams.value.find((one) => one.handle === handle)} />
              </header>
              <StreamMap handle={handle} name={name(handle)} shape={shape} selected={selected} describe={describe(n)} onSelect={select} map={maps[n]!} />
              {heads[n]?.tokens === 0 && <p class="notice">No routing yet. A stream shows its experts when it begins while this page is open: <a href={link("chat")}>start a chat</a>.</p>}
            </section>
          ))}
          <div class="row experts-foot">
            <Legend top={top} unit={UNITS[mode]} mode={mode} />
            <span class="unit" data-rate={rate.toFixed(1)} title="pictures a second that this page draws">
              {rate > 0 ? rate.toFixed(0) : "–"} pictures/s{trouble.value.dropped > 0 ? ` · ${whole(trouble.value.dropped)} frames dropped` : ""}
            </span>
          </div>
          {second > 0 && <Overlap values={overlap.value} names={handles.map(name) as [string, string]} />}
        </div>
        {selected && <Expert cell={selected} stream={streams.value.find((one) => one.handle === first)} name={name(first)} detail={detail.value?.layer === selected.layer && detail.value.expert === selected.expert ? detail.value : null} onSelect={select} />}
      </div>
    </div>
  );
}

/** What is said of a picture beside it. */
type Head = Omit<Picture, "handle" | "values">;

/** Draws pictures into maps, one at every frame of the screen in which the last one has come. */
function usePictures(shape: Model | null, handles: number[], mode: Mode, back: number, maps: { current: MapHandle | null }[]) {
  const shown = useRef<Picture[]>([]);
  const [state, setState] = useState<{ heads: Head[]; top: number }>({ heads: [], top: 1 });
  const [rate, setRate] = useState(0);
  useEffect(() => {
    if (!shape) return;
    let [frame, frames, since, told, top, fits] = [0, 0, performance.now(), 0, 0, 0];
    let stopped = false;
    const views: View[] = handles.map((handle) => ({ handle, mode, back }));
    const show = (pictures: Picture[], now: number) => {
      let most = 0;
      for (const { values } of pictures) for (let n = 0; n < values.length; n++) if (values[n]! > most) most = values[n]!;
      const wanted = round(most);
      if (wanted * 1.4 > top) fits = now;
      if (wanted > top || now - fits > 1000) [top, fits] = [wanted, now]; // it grows at once, and shrinks slowly: it does not flicker
      pictures.forEach((picture) => maps[handles.indexOf(picture.handle)]?.current?.draw(picture.values, top));
      for (const old of shown.current) done(old);
      shown.current = pictures;
      frames++;
      if (now - told > 200) {
        told = now;
        setState({ top, heads: handles.map((handle) => pictures.find((one) => one.handle === handle) ?? { tokens: 0, kept: 0, position: 0, text: "" }) });
      }
      if (now - since > 1000) {
        setRate((frames * 1000) / (now - since));
        [frames, since] = [0, now];
      }
    };
    const step = (now: number) => {
      frame = requestAnimationFrame(step);
      draw(views)?.then((pictures) => stopped || show(pictures, now));
    };
    frame = requestAnimationFrame(step);
    return () => {
      stopped = true;
      cancelAnimationFrame(frame);
    };
  }, [shape, mode, back, handles.join()]);
  return { shown, ...state, rate };
}

const said = { ban: "banned", force: "forced", bias: "biased", scale: "scaled" };

function marksOf(handle: number) {
  return listed(read(streams.value.find((one) => one.handle === handle)?.steer));
}

/** The map of one stream, with what is done to its experts. */
function StreamMap(p: { handle: number; name: string; shape: Model; selected: Cell | null; describe: (cell: Cell) => string; onSelect: (cell: Cell) => void; map: { current: MapHandle | null } }) {
  const steer = JSON.stringify(streams.value.find((one) => one.handle === p.handle)?.steer ?? null);
  const marks = useMemo(() => new Map([...listed(read(JSON.parse(steer)))].map(([key, one]) => [key, one.kind])), [steer]);
  return (
    <ExpertMap
      label={`Layers by experts of ${p.name}`}
      layers={p.shape.layers}
      experts={p.shape.experts}
      selected={p.selected}
      marks={marks}
      describe={p.describe}
      onSelect={p.onSelect}
      handle={p.map}
    />
  );
}

function cellOf(text: string, shape: { layers: number; experts: number } | null): Cell | null {
  const parts = /^(\d+)\.(\d+)$/.exec(text);
  if (!parts || !shape) return null;
  const cell = { layer: Number(parts[1]), expert: Number(parts[2]) };
  return cell.layer < shape.layers && cell.expert < shape.experts ? cell : null;
}

/** A stream's name among people: its request, and which answer where there are several. */
function nameOf(handle: number, all: Watched[]): string {
  if (handle === EVERYBODY) return "All streams";
  const one = all.find((s) => s.handle === handle);
  return one ? `#${handle} ${one.request.slice(0, 14)}${one.choice > 0 ? `, answer ${one.choice + 1}` : ""}` : `#${handle}`;
}

function Nothing() {
  return (
    <div class="empty" key="empty">
      <h1>{status.value === "lost" ? "The server cannot be reached" : "The model is still loading"}</h1>
      <p>{status.value === "lost" ? "Is it running? This page connects by itself as soon as it is." : "The map is here as soon as it runs."}</p>
    </div>
  );
}

function StreamChoice(p: { label: string; value: string; streams: Watched[]; empty: string; everybody?: boolean; onChoose: (value: string) => void }) {
  const some = p.streams.filter((one) => one.routed).slice(0, 60);
  return (
    <label class="row">
      <span class="unit">{p.label}</span>
      <select value={p.value} onChange={(e) => p.onChoose(e.currentTarget.value)}>
        <option value="">{p.empty}</option>
        {p.everybody && p.empty !== "All streams" && <option value="all">All streams</option>}
        {p.value !== "" && p.value !== "all" && !some.some((one) => String(one.handle) === p.value) && <option value={p.value}>#{p.value}, not there</option>}
        {some.map((one) => (
          <option key={one.handle} value={String(one.handle)}>
            {nameOf(one.handle, some)} · {one.state === "running" ? "running" : one.reason} · {whole(one.seen)}
          </option>
        ))}
      </select>
    </label>
  );
}

function StreamState({ stream }: { stream: Watched | undefined }) {
  if (!stream) return null;
  const still = stream.pace === 0;
  return (
    <span class="state unit">
      <span class={"dot " + (stream.state === "running" ? (still ? "waiting" : "live") : "")} />
      {stream.state === "running" ? (still ? "standing still" : `${stream.rate.toFixed(stream.rate < 10 ? 1 : 0)} tokens/s`) : `ended: ${stream.reason}`}
    </span>
  );
}

const PACES = [["0", "Pause"], ["2", "2/s"], ["10", "10/s"], ["", "Full"]] as const;

/** Slows a stream down so that people can follow, and lets it go again. */
function Pace({ handle }: { handle: number }) {
  const stream = running.value.find((one) => one.handle === handle);
  const [error, setError] = useState("");
  if (!stream) return null;
  const value = stream.pace === null ? "" : String(stream.pace);
  return (
    <span class="row">
      <Choices label="Tokens a second" value={PACES.some(([n]) => n === value) ? (value as "") : ("?" as "")} options={PACES} onChoose={(n) => pace(handle, n === "" ? null : Number(n)).then(() => setError(""), (e: Error) => setError(e.message))} />
      {error && <span class="notice bad">{error}</span>}
    </span>
  );
}

/** Goes through the tokens that are kept. */
function Scrub({ kept, back, head }: { kept: number; back: number; head: { position: number; text: string } | undefined }) {
  const go = (n: number) => set({ back: n <= 0 ? "" : String(Math.min(n, Math.max(0, kept - 1))) });
  return (
    <div class="row scrub">
      <button aria-label="the token before" onClick={() => go(back + 1)} disabled={back >= kept - 1}>
        ◀
      </button>
      <input type="range" aria-label="token" min={0} max={Math.max(0, kept - 1)} value={Math.max(0, kept - 1 - back)} onInput={(e) => go(kept - 1 - Number(e.currentTarget.value))} />
      <button aria-label="the next token" onClick={() => go(back - 1)} disabled={back === 0}>
        ▶
      </button>
      <span>
        {back === 0 ? "newest, " : ""}position {head?.position ?? 0} <code>{visible(head?.text ?? "")}</code>
      </span>
    </div>
  );
}

function Legend({ top, unit, mode }: { top: number; unit: string; mode: Mode }) {
  const bar = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const c = bar.current!.getContext("2d")!;
    for (let n = 0; n < 160; n++) {
      c.fillStyle = colour(dark.value, Math.sqrt(n / 159));
      c.fillRect(n, 0, 1, 10);
    }
  }, [dark.value]);
  return (
    <span class="row">
      <span class="legend">
        0<canvas ref={bar} width={160} height={10} aria-hidden="true" />
        {mode === "token" ? String(top) : percent(top)}
      </span>
      <span class="unit">{unit}; colours follow the square root</span>
    </span>
  );
}
