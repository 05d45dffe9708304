import { useEffect, useMemo, useState } from "preact/hooks";
import { link, set } from "../../frame/url";
import { steer } from "../../live/live";
import type { Watched } from "../../live/messages";
import type { Detail } from "../../live/tally";
import { carried, changed, isEmpty, type Kind, listed, read } from "../../steering";
import { Chart } from "../../ui/chart";
import { counted, percent, visible, whole } from "../../ui/format";
import type { Cell } from "../../ui/map";

interface Props {
  cell: Cell;
  stream: Watched | undefined;
  name: string;
  detail: Detail | null;
  onSelect: (cell: Cell) => void;
}

/** One expert of a stream: what is done to it, who chose it, when, and with whom. */
export function Expert({ cell, stream, name, detail, onSelect }: Props) {
  const x = useMemo(() => (detail ? Array.from(detail.positions) : []), [detail]);
  const lines = useMemo(() => [{ label: "weight", values: detail ? Array.from(detail.series) : [], bars: true }], [detail]);
  return (
    <aside class="experts-side" aria-label={`Expert ${cell.expert} of layer ${cell.layer}`}>
      <section class="card">
        <header>
          <h2>
            Layer {cell.layer}, expert {cell.expert}
          </h2>
          <button class="quiet side-close" onClick={() => set({ expert: "" })} aria-label="Close">
            ✕
          </button>
        </header>
        <Steering cell={cell} stream={stream} />
      </section>
      <section class="card">
        <header>
          <h2>Chosen by</h2>
          <span class="unit">
            {name}
            {detail && `, ${whole(detail.count)} of ${whole(detail.tokens)} tokens${detail.tokens ? " (" + percent(detail.count / detail.tokens) + ")" : ""}`}
            {detail && detail.count > 0 && `, mean weight ${detail.weight.toFixed(3)}`}
          </span>
        </header>
        {detail && detail.words.length > 0 ? (
          <ul class="words">
            {detail.words.map((word) => (
              <li key={word.text} title={`${whole(word.times)} times, mean weight ${(word.weight / word.times).toFixed(3)}`}>
                <code>{visible(word.text)}</code>
                <span class="unit">{whole(word.times)}</span>
              </li>
            ))}
          </ul>
        ) : (
          <p class="unit">No token of this stream has chosen it yet.</p>
        )}
      </section>
      <section class="card">
        <header>
          <h2>Weight by position</h2>
          <span class="unit">last {whole(detail?.kept ?? 0)} tokens</span>
        </header>
        <Chart label="weight of the expert by position" x={x} lines={lines} height={130} least={0.1} format={(v) => v.toFixed(2)} formatX={(v) => whole(v)} />
      </section>
      <section class="card">
        <header>
          <h2>Chosen together with</h2>
          <span class="unit">in layer {cell.layer}</span>
        </header>
        {detail && detail.together.length > 0 ? (
          <table>
            <thead>
              <tr>
                <th>Expert</th>
                <th class="number">Times</th>
                <th class="number" title="how much oftener than if both were chosen by chance">
                  Than by chance
                </th>
              </tr>
            </thead>
            <tbody>
              {detail.together.map((other) => (
                <tr key={other.expert}>
                  <td>
                    <button class="quiet" onClick={() => onSelect({ layer: cell.layer, expert: other.expert })}>
                      {other.expert}
                    </button>
                  </td>
                  <td class="number">{whole(other.times)}</td>
                  <td class="number">{other.lift.toFixed(2)} ×</td>
                </tr>
              ))}
            </tbody>
          </table>
        ) : (
          <p class="unit">Nobody yet.</p>
        )}
      </section>
    </aside>
  );
}

const VERBS: [Kind, string, string][] = [
  ["ban", "Ban", "it is never chosen"],
  ["force", "Force", "it is always chosen, in the place of the weakest"],
  ["bias", "Bias", "a number that is added to its router logit"],
  ["scale", "Scale", "a factor of its weight"],
];

/** What is done to an expert of a stream that runs. */
function Steering({ cell, stream }: { cell: Cell; stream: Watched | undefined }) {
  const [told, setTold] = useState<{ text: string; bad?: boolean } | null>(null);
  const [values, setValues] = useState({ bias: "2", scale: "0.5" });
  // What was asked for holds here until the server says what is in force.
  const [asked, setAsked] = useState<string | null>(null);
  const known = JSON.stringify(stream?.steer ?? null);
  useEffect(() => setAsked(null), [known, stream?.handle]);
  useEffect(() => setTold(null), [cell.layer, cell.expert, stream?.handle]);
  const current = read(asked === null ? stream?.steer : JSON.parse(asked));
  const now = listed(current).get(cell.layer + "." + cell.expert);
  const can = stream?.state === "running" && stream.routed;

  const apply = async (kind: Kind | null) => {
    if (!stream) return;
    const value = kind === "bias" || kind === "scale" ? Number(values[kind]) : 0;
    if (!Number.isFinite(value)) return setTold({ text: "That is no number.", bad: true });
    const next = changed(current, cell.layer, cell.expert, kind && { kind, value });
    setAsked(JSON.stringify(next));
    setTold({ text: "Sent; it is taken up with the next token." });
    try {
      setTold({ text: `In force from position ${await steer(stream.handle, next)} on.` });
    } catch (e) {
      setAsked(null);
      setTold({ text: (e as Error).message, bad: true });
    }
  };

  return (
    <div class="steering">
      <div class="row" role="group" aria-label="Steer this expert">
        {VERBS.map(([kind, label, title]) => (
          <span key={kind} class="verb">
            <button aria-pressed={now?.kind === kind} class={now?.kind === kind ? "primary" : ""} disabled={!can} title={title} onClick={() => void apply(now?.kind === kind ? null : kind)}>
              {label}
            </button>
            {(kind === "bias" || kind === "scale") && (
              <input aria-label={label + " value"} inputMode="decimal" size={4} value={now?.kind === kind ? String(now.value) : values[kind]} disabled={!can} onInput={(e) => setValues({ ...values, [kind]: e.currentTarget.value })} onKeyDown={(e) => e.key === "Enter" && void apply(kind)} />
            )}
          </span>
        ))}
      </div>
      {!stream ? (
        <p class="unit">Choose one stream to steer it.</p>
      ) : !can ? (
        <p class="unit">
          {stream.state === "running" ? "It began while nobody watched, and cannot be steered." : "The stream has ended."} <a href={link("chat")}>Start a chat</a> at a slow pace, and steer it here.
        </p>
      ) : null}
      {told && (
        <p class={"notice" + (told.bad ? " bad" : "")} role="status">
          {told.text}
        </p>
      )}
      {!isEmpty(current) && (
        <p class="row unit">
          {counted(listed(current).size, "expert")} of this stream {listed(current).size === 1 ? "is" : "are"} steered.
          {can && (
            <button class="quiet" onClick={() => stream && steer(stream.handle, {}).then((from) => setTold({ text: `Everything is taken back from position ${from} on.` }), (e: Error) => setTold({ text: e.message, bad: true }))}>
              Take all back
            </button>
          )}
          <button class="quiet" onClick={() => { carried.value = current; setTold({ text: "New chats of this page begin with this steering." }); }}>
            Keep for new chats
          </button>
        </p>
      )}
    </div>
  );
}
