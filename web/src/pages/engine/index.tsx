import { useEffect, useMemo, useState } from "preact/hooks";
import { link } from "../../frame/url";
import { events, running, stats, status, streams, subscribe } from "../../live/live";
import type { ServerEvent } from "../../live/live";
import type { Stats } from "../../live/protocol";
import { Chart } from "../../ui/chart";
import { kind } from "../../ui/colours";
import { bytes, percent, seconds, whole } from "../../ui/format";
import type { Page } from "../pages";
import "./engine.css";

export default { name: "engine", title: "Engine", place: 2, View: Engine } satisfies Page;

/** What the engine does: queue, batch, time, memory, hooks, events. */
function Engine() {
  useEffect(() => {
    subscribe({ events: true, stats: true });
    return () => subscribe({ events: false, stats: false });
  }, []);
  const all = stats.value;
  const now = all[all.length - 1];
  if (!now) {
    return (
      <div class="empty" key="empty">
        <h1>{status.value === "lost" ? "The server cannot be reached" : "Waiting for the engine"}</h1>
        <p>{status.value === "lost" ? "Is it running? This page connects by itself as soon as it is." : "Its counters come twice a second, once the model is loaded."}</p>
      </div>
    );
  }
  return (
    <div class="engine" key="engine">
      <h1 class="sr">Engine</h1>
      <Tiles now={now} all={all} />
      <Speed all={all} />
      <div class="column">
        <Batch />
        <Memory now={now} />
        <Hooks now={now} />
      </div>
      <div class="column">
        <Phases all={all} />
      </div>
      <Feed />
    </div>
  );
}

/** How many a second, between two samples. */
function perSecond(a: Stats | undefined, b: Stats, of: (s: Stats) => number): number {
  return a && b.seconds > a.seconds ? Math.max(0, of(b) - of(a)) / (b.seconds - a.seconds) : 0;
}

const steps = (s: Stats) => s.decode_steps + s.prefill_steps + s.mixed_steps;

/** The sample of some seconds ago. */
function ago(all: Stats[], span: number): Stats | undefined {
  const now = all[all.length - 1]!;
  return all.find((one) => one.seconds >= now.seconds - span) ?? all[0];
}

function Tiles({ now, all }: { now: Stats; all: Stats[] }) {
  const before = ago(all, 2);
  const of = (f: (s: Stats) => number) => perSecond(before, now, f);
  const made = of((s) => s.generated_tokens);
  const stepsNow = of(steps);
  const tiles: [string, string, string, number?][] = [
    ["Tokens made", whole(made) + "/s", `${whole(now.generated_tokens)} in all`],
    ["Prompt tokens read", whole(of((s) => s.prompt_tokens)) + "/s", `${whole(now.prompt_tokens)} in all`],
    ["Running", whole(now.running), `${whole(now.queued)} wait, ${whole(now.swapped)} put aside`],
    ["Rows a step", stepsNow > 0 ? (of((s) => s.batch_rows) / stepsNow).toFixed(1) : "–", "streams that decode together"],
    ["KV pages", percent(now.pages_total ? now.pages_used / now.pages_total : 0), `${whole(now.pages_used)} of ${whole(now.pages_total)}`, now.pages_total ? now.pages_used / now.pages_total : 0],
    ["State slots", percent(now.slots_total ? now.slots_used / now.slots_total : 0), `${whole(now.slots_used)} of ${whole(now.slots_total)}`, now.slots_total ? now.slots_used / now.slots_total : 0],
  ];
  return (
    <dl class="tiles">
      {tiles.map(([label, value, more, share]) => (
        <div class="card" key={label}>
          <dt>{label}</dt>
          <dd>
            {value}
            <span class="unit">{more}</span>
            {share !== undefined && (
              <span class="meter" aria-hidden="true">
                <i style={{ width: share * 100 + "%" }} />
              </span>
            )}
          </dd>
        </div>
      ))}
    </dl>
  );
}

function Speed({ all }: { all: Stats[] }) {
  const last = all[all.length - 1]!.seconds;
  const x = useMemo(() => all.map((s) => s.seconds - last), [all]);
  const lines = useMemo(
    () => [
      { label: "made", values: all.map((s, n) => perSecond(all[n - 1], s, (o) => o.generated_tokens)) },
      { label: "read of prompts", values: all.map((s, n) => perSecond(all[n - 1], s, (o) => o.prompt_tokens)) },
    ],
    [all],
  );
  return (
    <section class="card wide">
      <header>
        <h2>Tokens a second</h2>
        <span class="unit">last two minutes</span>
      </header>
      <Chart label="tokens a second over the last two minutes" x={x} lines={lines} height={180} format={whole} formatX={(v) => v.toFixed(0) + " s"} least={10} span={[-120, 0]} />
    </section>
  );
}

/** Where the time of a step goes. */
function Phases({ all }: { all: Stats[] }) {
  const [now, before] = [all[all.length - 1]!, ago(all, 5)];
  const recent = now.phases.map(({ name }, n) => ({ name, took: perSecond(before, now, (s) => s.phases[n]?.seconds ?? 0) }));
  // Between requests nothing runs: then it is all time since the start.
  const idle = recent.every((one) => one.took === 0);
  const shown = idle ? now.phases.map(({ name, seconds: took }) => ({ name, took })) : recent;
  const sum = shown.reduce((total, one) => total + one.took, 0);
  const count = idle ? steps(now) : perSecond(before, now, steps);
  const step = count > 0 ? (idle ? now.step_seconds : perSecond(before, now, (s) => s.step_seconds)) / count : 0;
  return (
    <section class="card">
      <header>
        <h2>Step time by phase</h2>
        <span class="unit">
          {count > 0 ? `${seconds(step)} a step, ` : ""}
          {idle ? "since the start" : "last five seconds"}
        </span>
      </header>
      <Bar parts={shown.map((one) => ({ name: one.name, share: sum > 0 ? one.took / sum : 0 }))} />
      <table>
        <tbody>
          {shown.map((one, n) => (
            <tr key={one.name}>
              <td>
                <Swatch n={n} />
                {one.name}
              </td>
              <td class="number">{count > 0 ? seconds(one.took / count) : "–"}</td>
              <td class="number">{sum > 0 ? percent(one.took / sum) : "–"}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

/** A bar of shares; the table below it names them in the same order. */
function Bar({ parts }: { parts: { name: string; share: number }[] }) {
  return (
    <div class="bar" aria-hidden="true">
      {parts.map((one, n) => (
        <i key={one.name} title={`${one.name} ${percent(one.share)}`} style={{ width: one.share * 100 + "%", background: kind(n) }} />
      ))}
    </div>
  );
}

const Swatch = ({ n }: { n: number }) => <i class="swatch" style={{ background: kind(n) }} aria-hidden="true" />;

function Batch() {
  const list = running.value;
  return (
    <section class="card batch">
      <header>
        <h2>Batch</h2>
        <span class="unit">streams that run</span>
      </header>
      {list.length === 0 ? (
        <p class="unit">
          Nothing runs. <a href={link("chat")}>Start a chat</a>, or send a request.
        </p>
      ) : (
        <table>
          <thead>
            <tr>
              <th>Stream</th>
              <th class="number">Prompt</th>
              <th class="number">Made</th>
              <th class="number">Tokens/s</th>
            </tr>
          </thead>
          <tbody>
            {list.slice(0, 32).map((one) => (
              <tr key={one.handle}>
                <td>
                  <a href={link("experts", { stream: String(one.handle) })}>#{one.handle}</a> <span class="unit">{one.tail.slice(-40)}</span>
                </td>
                <td class="number">{whole(one.prompt_tokens)}</td>
                <td class="number">{whole(one.completion_tokens)}</td>
                <td class="number">{one.pace === 0 ? "stands still" : one.rate.toFixed(one.rate < 10 ? 1 : 0)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {list.length > 32 && <p class="unit">and {list.length - 32} more of {streams.value.length}</p>}
    </section>
  );
}

function Memory({ now }: { now: Stats }) {
  const list = [...(now.memory)].sort((a, b) => b.bytes - a.bytes);
  const sum = list.reduce((total, one) => total + one.bytes, 0);
  return (
    <section class="card">
      <header>
        <h2>Memory by arena</h2>
        <span class="unit">{bytes(sum)} of the model; nothing is allocated after loading</span>
      </header>
      <Bar parts={list.map((one) => ({ name: one.name, share: one.bytes / sum }))} />
      <table>
        <tbody>
          {list.map((one, n) => (
            <tr key={one.name}>
              <td>
                <Swatch n={n} />
                {one.name}
              </td>
              <td class="number">{bytes(one.bytes)}</td>
              <td class="number">{percent(one.bytes / sum)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

function Hooks({ now }: { now: Stats }) {
  return (
    <section class="card">
      <header>
        <h2>Cost of hooks</h2>
        <span class="unit">scripts, plugins and steering, of answers that have ended</span>
      </header>
      {now.hooks.length === 0 ? (
        <p class="unit">
          No hook has run yet. <a href={link("chat")}>A chat</a> can choose a script.
        </p>
      ) : (
        <table>
          <thead>
            <tr>
              <th>Hook</th>
              <th class="number">A token</th>
              <th class="number">Calls</th>
              <th class="number">Edits</th>
              <th class="number" title="tokens that would have been others without it, as far as known">
                Changed
              </th>
              <th class="number">Faults</th>
            </tr>
          </thead>
          <tbody>
            {now.hooks.map((one) => (
              <tr key={one.name}>
                <td>{one.name}</td>
                <td class="number">{one.tokens > 0 ? seconds(one.seconds / one.tokens) : "–"}</td>
                <td class="number">{whole(one.calls)}</td>
                <td class="number">{whole(one.edits)}</td>
                <td class="number">{whole(one.changed)}</td>
                <td class={"number" + (one.faults > 0 ? " bad" : "")}>{whole(one.faults)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}

/** The server's events, as they come. */
function Feed() {
  const [only, setOnly] = useState("");
  const [held, setHeld] = useState<ServerEvent[] | null>(null);
  const list = (held ?? events.value).filter((one) => only === "" || one.kind === only);
  const kinds = [...new Set(events.value.map((one) => one.kind))].sort();
  return (
    <section class="card wide">
      <header>
        <h2>Events</h2>
        <label class="row unit">
          Kind
          <select value={only} onChange={(e) => setOnly(e.currentTarget.value)}>
            <option value="">all</option>
            {kinds.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
        <button aria-pressed={held !== null} onClick={() => setHeld(held ? null : events.value)}>
          {held ? "Go on" : "Hold"}
        </button>
      </header>
      {list.length === 0 ? (
        <p class="unit">Nothing has happened since this page is open.</p>
      ) : (
        <ol class="feed">
          {list.slice(0, 100).map((one, n) => (
            <li key={one.seq || -n}>
              <time>{one.time.slice(11, 23)}</time>
              <b>{one.kind}</b>
              <code>{one.request}</code>
              <span>{JSON.stringify(one.data)}</span>
            </li>
          ))}
        </ol>
      )}
    </section>
  );
}
