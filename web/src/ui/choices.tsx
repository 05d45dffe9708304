/** A few choices of which one holds. */
export function Choices<T extends string>({ label, value, options, onChoose }: { label: string; value: T; options: readonly (readonly [T, string, string?])[]; onChoose: (value: T) => void }) {
  return (
    <div class="choices" role="group" aria-label={label}>
      {options.map(([name, text, title]) => (
        <button key={name} type="button" aria-pressed={value === name} title={title} onClick={() => onChoose(name)}>
          {text}
        </button>
      ))}
    </div>
  );
}
