import { visible } from "../../ui/format";
import type { Change, Piece, Told } from "./conversation";

/** What is known of the tokens of a piece. */
export function TokenTip({ piece }: { piece: Piece }) {
  return (
    <div class="token-tip">
      {piece.tokens.slice(0, 4).map((token, n) => (
        <One key={n} token={token} />
      ))}
      {piece.tokens.length > 4 && <p class="unit">and {piece.tokens.length - 4} tokens more</p>}
    </div>
  );
}

const chance = (logprob: number) => {
  const p = Math.exp(logprob) * 100;
  return p < 0.01 ? "< 0.01 %" : (p >= 9.95 ? p.toFixed(0) : p >= 0.995 ? p.toFixed(1) : p.toFixed(2)) + " %";
};

function One({ token }: { token: Told }) {
  const rank = token.top.findIndex((one) => one.id === token.id);
  return (
    <>
      <p class="row">
        <code class="token-text">{visible(token.text)}</code>
        <b>{token.forced ? "not drawn" : chance(token.logprob)}</b>
        <span class="unit">
          {token.forced ? "" : `log-probability ${token.logprob.toFixed(3)}, `}
          {token.id >= 0 && `id ${token.id}`}
        </span>
      </p>
      {token.top.length > 0 && (
        <table>
          <tbody>
            {token.top.map((one, n) => (
              <tr key={n} class={n === rank ? "chosen" : ""}>
                <td>
                  <code>{visible(one.text)}</code>
                </td>
                <td class="likely">
                  <i style={{ width: Math.exp(one.logprob) * 100 + "%" }} />
                </td>
                <td class="number">{chance(one.logprob)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {rank < 0 && !token.forced && token.top.length > 0 && <p class="unit">It was not among the {token.top.length} likeliest.</p>}
      {token.changes.length === 0 ? (
        <p class="unit">Nothing changed it: the sampler drew it.</p>
      ) : (
        <ul class="changes">
          {token.changes.map((change, n) => (
            <li key={n}>{told(change, token)}</li>
          ))}
        </ul>
      )}
    </>
  );
}

const DID: { [what: string]: string } = {
  logits: "edited the logits",
  sample: "chose it",
  inject: "put it there",
  steering: "steered the experts",
};

function told(change: Change, token: Told) {
  const who = change.hook === "request" ? "The request" : change.hook === "dashboard" ? "This dashboard" : change.hook;
  const other = change.instead === undefined ? undefined : token.top.find((one) => one.id === change.instead);
  return (
    <>
      <b>{who}</b> {DID[change.what] ?? change.what}
      {change.instead !== undefined && (
        <>
          ; without it there would be <code>{other ? visible(other.text) : "token " + change.instead}</code>
        </>
      )}
    </>
  );
}
