import { percent } from "../../ui/format";

/** How alike two streams use each layer. */
export function Overlap({ values, names }: { values: Float32Array | null; names: [string, string] }) {
  const list = values ? Array.from(values) : [];
  const mean = list.length > 0 ? list.reduce((a, b) => a + b, 0) / list.length : 0;
  return (
    <section class="card" aria-label="Overlap of the two streams">
      <header>
        <h2>Overlap by layer</h2>
        <span class="unit">
          share of choices that {names[0]} and {names[1]} have in common, of all their tokens; in the mean {percent(mean)}
        </span>
      </header>
      {list.length > 0 ? (
        <div class="overlap" role="img" aria-label={"overlap by layer: " + list.map((v, n) => `layer ${n} ${percent(v)}`).join(", ")}>
          {list.map((value, layer) => (
            <span key={layer} title={`layer ${layer}: ${percent(value)}`}>
              {list.length <= 16 && <em>{percent(value)}</em>}
              <i style={{ height: (value * 100).toFixed(1) + "%" }} />
              <b>{list.length <= 16 || layer % 8 === 0 ? layer : ""}</b>
            </span>
          ))}
        </div>
      ) : (
        <p class="unit">Both need tokens with routing.</p>
      )}
    </section>
  );
}
