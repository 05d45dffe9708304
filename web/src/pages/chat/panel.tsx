import type { Param } from "../../api";
import { keep, mark, type Mark, params, script, scripts, scriptsError, type Setting, SETTINGS, system, valid, values } from "./settings";

/** How answers are made: parameters, a script, a system message. */
export function Panel() {
  return (
    <aside class="panel" aria-label="How answers are made">
      <details open={matchMedia("(min-width: 901px)").matches}>
        <summary>
          <h2>Settings</h2>
        </summary>
        <div class="panel-fields">
          <label class="field">
            System message
            <textarea rows={2} value={system.value} placeholder="none" onInput={(e) => (system.value = e.currentTarget.value)} />
          </label>
          <div class="panel-numbers">
            {SETTINGS.map((one) => (
              <NumberField key={one.name} setting={one} />
            ))}
          </div>
          <Scripts />
          <label class="field">
            Mark tokens by
            <select
              value={mark.value}
              onChange={(e) => {
                mark.value = e.currentTarget.value as Mark;
                keep();
              }}
            >
              <option value="">nothing</option>
              <option value="surprise">how unlikely they were</option>
              <option value="changes">what changed them</option>
            </select>
          </label>
          {mark.value === "surprise" && (
            <p class="marks unit">
              <span class="odd1">below 70 %</span> <span class="odd2">30 %</span> <span class="odd3">8 %</span> <span class="odd4">1 %</span>
            </p>
          )}
          {mark.value === "changes" && (
            <p class="marks unit">
              <span class="touched">edited, chosen or steered</span> <span class="forced">put there</span>
            </p>
          )}
        </div>
      </details>
    </aside>
  );
}

function NumberField({ setting }: { setting: Setting }) {
  const text = values.value[setting.name] ?? "";
  const wrong = text !== "" && valid(setting.name, text) === "";
  return (
    <label class="field">
      {setting.label}
      <input
        inputMode="decimal"
        value={text}
        placeholder={setting.hint}
        aria-invalid={wrong}
        title={`${setting.low} to ${setting.high.toLocaleString("en")}; empty for ${setting.hint}`}
        onInput={(e) => {
          values.value = { ...values.value, [setting.name]: e.currentTarget.value };
          keep();
        }}
      />
      {wrong && <span class="bad">{`${setting.low} to ${setting.high.toLocaleString("en")}`}</span>}
    </label>
  );
}

function Scripts() {
  const list = scripts.value;
  const chosen = list?.find((one) => one.name === script.value);
  const choose = (name: string) => {
    script.value = name;
    params.value = {};
    keep();
  };
  return (
    <>
      <label class="field">
        Script
        <select value={script.value} onChange={(e) => choose(e.currentTarget.value)}>
          <option value="">none</option>
          {script.value && !chosen && <option value={script.value}>{script.value}</option>}
          {[false, true].map((library) => {
            const some = (list ?? []).filter((one) => (one.library ?? false) === library);
            return (
              some.length > 0 && (
                <optgroup key={String(library)} label={library ? "Library" : "Yours"}>
                  {some.map((one) => (
                    <option key={one.name} value={one.name} disabled={(one.problems?.length ?? 0) > 0}>
                      {one.name}
                      {(one.problems?.length ?? 0) > 0 ? " (broken)" : ""}
                    </option>
                  ))}
                </optgroup>
              )
            );
          })}
        </select>
        {scriptsError.value && <span class="bad">{scriptsError.value}</span>}
      </label>
      {Object.entries(chosen?.params ?? {}).map(([name, of]) => (
        <ParamField key={name} name={name} of={of} />
      ))}
    </>
  );
}

/** A parameter of the script, after what it declares. */
function ParamField({ name, of }: { name: string; of: Param }) {
  const text = params.value[name] ?? "";
  const change = (value: string) => {
    const { [name]: _, ...others } = params.value;
    params.value = value === "" ? others : { ...others, [name]: value };
    keep();
  };
  const hint = of.default === undefined ? "needed" : String(of.default) || "none";
  const options = of.enum?.map(String) ?? (of.type === "boolean" ? ["true", "false"] : null);
  return (
    <label class="field param" title={of.description}>
      {name}
      {options ? (
        <select value={text} onChange={(e) => change(e.currentTarget.value)}>
          <option value="">{hint}</option>
          {options.map((one) => (
            <option key={one}>{one}</option>
          ))}
        </select>
      ) : (
        <input value={text} placeholder={hint} inputMode={of.type === "string" ? "text" : "decimal"} onInput={(e) => change(e.currentTarget.value)} />
      )}
      {of.description && <span>{of.description}</span>}
    </label>
  );
}
