import { useEffect, useRef } from "preact/hooks";
import icon from "../icon.svg";
import { key, locked, unlock } from "../api";
import { connect, model, status, trouble } from "../live/live";
import { pages } from "../pages/pages";
import { choice, next } from "./theme";
import { go, link, page } from "./url";

/** The frame that every page is in. */
export function App() {
  useEffect(() => connect(key.value), [key.value]);
  const current = pages.find((one) => one.name === page.value) ?? pages[0]!;
  useEffect(() => {
    document.title = current.title + " · Roundhouse";
  }, [current]);
  return (
    <div class="frame" onClick={follow}>
      <header class="top">
        <a class="brand" href={link("")}>
          <img src={icon} alt="" />
          Roundhouse
        </a>
        <nav aria-label="Pages">
          {pages.map((one) => (
            <a key={one.name} href={link(one.name)} aria-current={one === current ? "page" : undefined}>
              {one.title}
            </a>
          ))}
        </nav>
        <div class="right">
          <span class="model" title="the model that is served">
            {model.value?.name ?? ""}
          </span>
          <State />
          <button class="quiet" onClick={next} title="Colours: as the system has them, light, or dark">
            {{ auto: "Auto", light: "Light", dark: "Dark" }[choice.value]}
          </button>
        </div>
      </header>
      <main class="content">
        <current.View />
      </main>
      {locked.value && <Key />}
    </div>
  );
}

/** Follows links of the pages without loading them anew. */
function follow(e: MouseEvent) {
  const anchor = (e.target as Element).closest("a");
  if (!anchor || anchor.origin !== location.origin || anchor.target || !anchor.pathname.startsWith("/ui/")) return;
  if (e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
  e.preventDefault();
  go(anchor.pathname + anchor.search);
}

const said = { connecting: "Connecting", live: "Live", lost: "Not connected" };

/** How the connection is. */
function State() {
  const dot = { connecting: "waiting", live: "live", lost: "lost" }[status.value];
  const { dropped, broken, resumed, frames } = trouble.value;
  return (
    <span class="state" role="status" data-frames={frames} data-dropped={dropped} data-broken={broken} data-resumed={resumed} title={dropped > 0 ? dropped + " frames were lost because this page was slow" : "the connection to the server"}>
      <span class={"dot " + dot} />
      {status.value === "live" && !model.value ? "Loading the model" : said[status.value]}
      {dropped > 0 && <span> · {dropped.toLocaleString("en")} dropped</span>}
    </span>
  );
}

/** Asks for the API key. */
function Key() {
  const dialog = useRef<HTMLDialogElement>(null);
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} aria-labelledby="key-title" onCancel={(e) => e.preventDefault()}>
      <form
        onSubmit={(e) => {
          e.preventDefault();
          if (input.current?.value) unlock(input.current.value);
        }}
      >
        <h1 id="key-title">This server wants a key</h1>
        <p>It was started with an API key. It stays in this tab, and is forgotten when you close it.</p>
        <label class="field">
          API key
          <input ref={input} type="password" autocomplete="off" required />
        </label>
        {key.value && <p class="notice bad">The last one was refused.</p>}
        <button class="primary">Go on</button>
      </form>
    </dialog>
  );
}
