import { memo } from "preact/compat";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { link } from "../../frame/url";
import { status, streams } from "../../live/live";
import { carried, isEmpty, listed } from "../../steering";
import { counted } from "../../ui/format";
import { Tip } from "../../ui/tip";
import type { Page } from "../pages";
import { again, busy, clear, type Piece, say, stop, textOf, type Turn, turns, version } from "./conversation";
import { Panel } from "./panel";
import { enter, type Mark, mark } from "./settings";
import { TokenTip } from "./token";
import "./chat.css";

export default { name: "chat", title: "Chat", place: 0, View: Chat } satisfies Page;

/** A conversation with the model, token by token. */
function Chat() {
  useEffect(enter, []);
  const list = useRef<HTMLDivElement>(null);
  const near = useRef(true);
  void version.value;
  useLayoutEffect(() => {
    if (near.current && list.current) list.current.scrollTop = list.current.scrollHeight; // who reads above is left there
  });
  return (
    <div class="chat">
      {turns.value.length > 0 && <h1 class="sr">Chat</h1>}
      <div class="chat-main">
        <div
          class="turns"
          ref={list}
          onScroll={(e) => {
            const box = e.currentTarget;
            near.current = box.scrollHeight - box.scrollTop - box.clientHeight < 60;
          }}
        >
          {turns.value.length === 0 ? <Welcome /> : turns.value.map((turn) => (turn.role === "user" ? <Said key={turn.id} turn={turn} /> : <Answer key={turn.id} turn={turn} version={turn.state === "running" ? version.value : -1} />))}
        </div>
        <Composer />
      </div>
      <Panel />
    </div>
  );
}

const IDEAS = ["Tell me a story about a brave rabbit and a lantern.", "Tell me a story about a fox.", "Tell me a story about a little boat."];

function Welcome() {
  return (
    <div class="empty">
      <h1>See the model think</h1>
      <p>Point at any token of an answer to see what else it could have been, and what changed it. The Experts page shows who worked on it.</p>
      <div class="ideas">
        {IDEAS.map((text) => (
          <button key={text} onClick={() => say(text)} disabled={status.value !== "live"}>
            {text}
          </button>
        ))}
      </div>
      {status.value === "lost" && <p class="notice bad">The server cannot be reached. This page connects by itself as soon as it runs.</p>}
    </div>
  );
}

/** What a person said. */
function Said({ turn }: { turn: Turn }) {
  const [text, setText] = useState<string | null>(null);
  if (text !== null) {
    const send = () => {
      setText(null);
      say(text, turn.id);
    };
    return (
      <div class="turn said editing">
        <textarea aria-label="Edit the message" value={text} rows={Math.min(12, text.split("\n").length + 1)} ref={(box) => box?.focus()} onInput={(e) => setText(e.currentTarget.value)} onKeyDown={(e) => (e.key === "Enter" && !e.shiftKey && !e.isComposing ? (e.preventDefault(), send()) : e.key === "Escape" && setText(null))} />
        <div class="row">
          <button class="primary" onClick={send} disabled={busy() || text.trim() === ""}>
            Send again
          </button>
          <button onClick={() => setText(null)}>Cancel</button>
        </div>
      </div>
    );
  }
  return (
    <div class="turn said">
      <p>{turn.text}</p>
      <button class="quiet" onClick={() => setText(turn.text)} disabled={busy()}>
        Edit
      </button>
    </div>
  );
}

/** What the model answers. An answer that is made grows in place: its version says so. */
const Answer = memo(function Answer({ turn, version }: { turn: Turn; version: number }) {
  const thinking = turn.thought.length > 0;
  const [open, setOpen] = useState(false);
  const runs = turn.state === "running";
  const stream = streams.value.find((one) => one.request === turn.request);
  return (
    <article class="turn answer" aria-busy={runs} aria-label="Answer">
      {thinking && (
        <details open={open} onToggle={(e) => setOpen(e.currentTarget.open)}>
          <summary>
            {runs && turn.answer.length === 0 ? "Thinking…" : "Thought"} <span class="unit">{counted(turn.thought.reduce((n, block) => n + block.length, 0), "token")}</span>
          </summary>
          {open && <Text blocks={turn.thought} version={version} />}
        </details>
      )}
      <Text blocks={turn.answer} version={version} caret={runs} />
      {turn.state === "failed" && (
        <p class="notice bad" role="alert">
          {turn.reason}
        </p>
      )}
      <footer class="row unit">
        {!runs && (
          <>
            <span>{{ stop: "complete", length: "cut off at its length", stopped: "stopped" }[turn.reason] ?? (turn.state === "failed" ? "failed" : turn.reason)}</span>
            <span>
              {counted(turn.tokens, "token")}, {((turn.tokens * 1000) / Math.max(1, turn.took)).toFixed(0)}/s
            </span>
            {turn.seed && <span>seed {turn.seed}</span>}
          </>
        )}
        {turn.degraded > 0 && <span class="bad" title={turn.hooks.map((hook) => hook.last_fault).filter(Boolean).join("; ")}>{counted(turn.degraded, "token")} took the default because a hook failed</span>}
        {turn.hooks.filter((hook) => hook.name !== "dashboard").map((hook) => (
          <span key={hook.name} title={hook.last_fault}>
            {hook.name}: {turn.tokens > 0 ? (hook.us / turn.tokens).toFixed(0) : 0} µs a token{hook.off ? ", switched off" : ""}
          </span>
        ))}
        {stream?.routed && <a href={link("experts", { stream: String(stream.handle) })}>Experts</a>}
        {!runs && (
          <>
            <button class="quiet" onClick={() => again(turn.id)} disabled={busy()}>
              Again
            </button>
            <button class="quiet" onClick={() => void navigator.clipboard?.writeText(textOf(turn.answer))}>
              Copy
            </button>
          </>
        )}
      </footer>
    </article>
  );
});

interface Place {
  block: number;
  piece: number;
  x: number;
  y: number;
}

/** Text whose tokens can be pointed at, and gone through with the arrow keys. */
function Text({ blocks, caret = false }: { blocks: Piece[][]; version: number; caret?: boolean }) {
  const [place, setPlace] = useState<Place | null>(null);
  const box = useRef<HTMLDivElement>(null);
  const piece = place && blocks[place.block]?.[place.piece];
  const point = (target: EventTarget | null, x?: number, y?: number) => {
    const span = (target as Element | null)?.closest?.("[data-at]") as HTMLElement | null;
    if (!span) return setPlace(null);
    const [block, piece] = span.dataset["at"]!.split(".").map(Number) as [number, number];
    const where = span.getBoundingClientRect();
    setPlace({ block, piece, x: x ?? where.left, y: y ?? where.bottom });
  };
  const walk = (e: KeyboardEvent) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10 }[e.key];
    if (e.key === "Escape") return setPlace(null);
    if (step === undefined) return;
    e.preventDefault();
    const spans = box.current!.querySelectorAll("[data-at]");
    const now = place ? [...spans].findIndex((one) => (one as HTMLElement).dataset["at"] === place.block + "." + place.piece) : step > 0 ? -1 : 0;
    const next = spans[Math.max(0, Math.min(spans.length - 1, now + step))];
    next?.scrollIntoView({ block: "nearest" });
    point(next ?? null);
  };
  return (
    <div class={"text" + (caret ? " caret" : "")} ref={box} tabIndex={blocks.length > 0 ? 0 : -1} role="group" aria-label="Answer by tokens: arrow keys go through them" onPointerMove={(e) => point(e.target, e.clientX, e.clientY)} onPointerLeave={() => setPlace(null)} onKeyDown={walk} onBlur={() => setPlace(null)}>
      {blocks.map((pieces, n) => (
        <Block key={n} pieces={pieces} length={pieces.length} block={n} marks={mark.value} at={place?.block === n ? place.piece : -1} />
      ))}
      {piece && piece.tokens.length > 0 && (
        <Tip x={place.x} y={place.y}>
          <TokenTip piece={piece} />
        </Tip>
      )}
    </div>
  );
}

/** Pieces that are drawn together: anew only when there are more of them. */
const Block = memo(function Block({ pieces, block, marks, at }: { pieces: Piece[]; length: number; block: number; marks: Mark; at: number }) {
  return (
    <>
      {pieces.map((piece, n) => (
        <span key={n} data-at={block + "." + n} class={classOf(piece, marks) + (n === at ? " here" : "") || undefined}>
          {piece.text}
        </span>
      ))}
    </>
  );
});

/** How a piece is marked: the less likely a token was, the stronger; or where a hook had a hand in. */
function classOf(piece: Piece, marks: Mark): string {
  if (marks === "changes") return piece.tokens.some((one) => one.forced) ? "forced" : piece.tokens.some((one) => one.changes.length > 0) ? "touched" : "";
  if (marks !== "surprise" || piece.tokens.length === 0) return "";
  const lowest = Math.min(...piece.tokens.map((one) => one.logprob));
  return lowest > -0.35 ? "" : lowest > -1.2 ? "odd1" : lowest > -2.5 ? "odd2" : lowest > -5 ? "odd3" : "odd4";
}

function Composer() {
  const [text, setText] = useState("");
  const running = turns.value.some((one) => one.state === "running");
  const send = () => {
    if (running || text.trim() === "") return;
    say(text);
    setText("");
  };
  return (
    <div class="composer">
      {!isEmpty(carried.value) && (
        <p class="row unit">
          New chats steer {counted(listed(carried.value).size, "expert")}.
          <button class="quiet" onClick={() => (carried.value = {})}>
            Let go
          </button>
        </p>
      )}
      <textarea aria-label="Message" placeholder="Say something" rows={Math.min(8, Math.max(2, text.split("\n").length))} value={text} onInput={(e) => setText(e.currentTarget.value)} onKeyDown={(e) => e.key === "Enter" && !e.shiftKey && !e.isComposing && (e.preventDefault(), send())} />
      <div class="row">
        <span class="unit">Enter sends, Shift and Enter begin a line</span>
        <span class="row composer-buttons">
          <button class="quiet" onClick={clear} disabled={turns.value.length === 0}>
            New chat
          </button>
          {running ? (
            <button class="primary" onClick={stop}>
              Stop
            </button>
          ) : (
            <button class="primary" onClick={send} disabled={text.trim() === ""}>
              Send
            </button>
          )}
        </span>
      </div>
    </div>
  );
}
