// The reply matches a regular expression, whole: at every token only those are left
// that keep a match possible, and the reply may end only where it is one.
//
// Patterns are of characters, ".", classes "[a-z]" and "[^a-z]", \d \w \s and their
// opposites, \n \t, groups, "|", and "*" "+" "?" "{2}" "{2,}" "{2,5}". Prefixes are
// followed as sets of states (Thompson 1968), after Willard and Louf 2023, "Efficient
// Guided Generation for Large Language Models", but with the likely tokens only: where
// none of them fits, the pattern goes on by single characters.

import { script } from "roundhouse";

type Test = (c: string) => boolean;

/** A state: with a test it is left by a character, without one it is left at once. */
interface State {
  test?: Test;
  to: number[];
}

const maxStates = 4000;

/** Adds the states of a part of the pattern, in front of a state; returns the first. */
type Part = (next: number) => number;

const sets: { [letter: string]: Test } = {
  d: (c) => c >= "0" && c <= "9",
  w: (c) => (c >= "0" && c <= "9") || (c >= "a" && c <= "z") || (c >= "A" && c <= "Z") || c === "_",
  s: (c) => " \t\n\r\f\v".includes(c),
};

/** Compiles a pattern: state 0 is the end. */
function compile(pattern: string): { states: State[]; first: number } {
  const text = Array.from(pattern);
  const states: State[] = [{ to: [] }];
  let at = 0;

  const add = (state: State) => {
    if (states.length >= maxStates) throw new Error(`the pattern has more than ${maxStates} states`);
    return states.push(state) - 1;
  };
  const wrong = (what: string) => new Error(`pattern, character ${at + 1}: ${what}`);
  const one = (test: Test): Part => (next) => add({ test, to: [next] });
  const both = (a: Part, b: Part): Part => (next) => a(b(next));
  const none: Part = (next) => next;

  function either(): Part {
    const parts = [sequence()];
    while (text[at] === "|") {
      at++;
      parts.push(sequence());
    }
    return parts.length === 1 ? parts[0] : (next) => add({ to: parts.map((part) => part(next)) });
  }

  function sequence(): Part {
    let whole = none;
    while (at < text.length && text[at] !== "|" && text[at] !== ")") whole = both(whole, repeated(atom()));
    return whole;
  }

  function atom(): Part {
    const c = text[at++];
    switch (c) {
      case "(": {
        if (text[at] === "?") {
          if (text[at + 1] !== ":") throw wrong("of groups with ? there is (?: ) only");
          at += 2;
        }
        const inside = either();
        if (text[at++] !== ")") throw wrong("a group is not closed");
        return inside;
      }
      case "[":
        return one(set());
      case ".":
        return one((x) => x !== "\n");
      case "\\":
        return one(escape());
      case "*": case "+": case "?": case "{": case "^": case "$":
        throw wrong(`${c} is not possible here; as a character it is \\${c}`);
      default:
        return one((x) => x === c);
    }
  }

  function escape(): Test {
    const c = text[at++];
    if (c === undefined) throw wrong("\\ is the last character");
    const known = sets[c.toLowerCase()];
    if (known) return c === c.toLowerCase() ? known : (x) => !known(x);
    if (sets.w(c) && c !== "n" && c !== "t") throw wrong(`\\${c} is not known`);
    const meant = c === "n" ? "\n" : c === "t" ? "\t" : c;
    return (x) => x === meant;
  }

  function set(): Test {
    const tests: Test[] = [];
    const not = text[at] === "^";
    if (not) at++;
    while (text[at] !== "]") {
      const from = text[at++];
      if (from === undefined) throw wrong("a class is not closed");
      if (from === "\\") {
        tests.push(escape());
      } else if (text[at] === "-" && text[at + 1] !== "]" && at + 1 < text.length) {
        const to = text[at + 1];
        at += 2;
        tests.push((c) => c >= from && c <= to);
      } else {
        tests.push((c) => c === from);
      }
    }
    at++;
    return (c) => tests.some((test) => test(c)) !== not;
  }

  function repeated(part: Part): Part {
    const many: Part = (next) => {
      const loop: State = { to: [] };
      const here = add(loop);
      loop.to = [part(here), next];
      return here;
    };
    const maybe = (inner: Part): Part => (next) => add({ to: [inner(next), next] });
    switch (text[at]) {
      case "*":
        at++;
        return many;
      case "+":
        at++;
        return both(part, many);
      case "?":
        at++;
        return maybe(part);
      case "{": {
        const end = text.indexOf("}", at);
        const [, low, comma, high] = /^(\d{1,4})(,?)(\d{0,4})$/.exec(text.slice(at + 1, end).join("")) ?? [];
        if (end < 0 || low === undefined || (high && Number(high) < Number(low))) throw wrong("counts are {2}, {2,} or {2,5}");
        at = end + 1;
        let rest = comma && !high ? many : none;
        for (let n = Number(low); n < Number(high); n++) rest = maybe(both(part, rest));
        for (let n = 0; n < Number(low); n++) rest = both(part, rest);
        return rest;
      }
    }
    return part;
  }

  const whole = either();
  if (at < text.length) throw wrong(") closes no group");
  return { states, first: whole(0) };
}

/** Where a text stands in a pattern. */
interface Place {
  states: number[];
  matched: boolean;
  moves: Map<string, Place | null>; // by character; null where no match is possible
  singles?: number[]; // tokens of one character that fit
}

/** Follows texts through a pattern. */
class Automaton {
  readonly start: Place;
  private readonly states: State[];
  private readonly places = new Map<string, Place>();

  constructor(pattern: string) {
    const { states, first } = compile(pattern);
    this.states = states;
    this.start = this.place([first]);
  }

  /** The place behind a text; null where nothing that begins so matches. */
  follow(from: Place | null, text: string): Place | null {
    for (const c of text) {
      if (!from) return null;
      let to = from.moves.get(c);
      if (to === undefined) {
        const next = from.states.filter((s) => this.states[s].test?.(c)).map((s) => this.states[s].to[0]);
        from.moves.set(c, (to = next.length > 0 ? this.place(next) : null));
      }
      from = to;
    }
    return from;
  }

  private place(from: number[]): Place {
    const found = new Set<number>();
    const left = [...from];
    for (let s = left.pop(); s !== undefined; s = left.pop()) {
      if (found.has(s)) continue;
      found.add(s);
      if (!this.states[s].test) left.push(...this.states[s].to);
    }
    const states = Array.from(found).filter((s) => s === 0 || this.states[s].test).sort((a, b) => a - b);
    const key = states.join();
    let place = this.places.get(key);
    if (!place) this.places.set(key, (place = { states, matched: found.has(0), moves: new Map() }));
    return place;
  }
}

const printable = Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i));

export default script({
  api: 1,
  lag: 1, // what fits depends on the token right before
  top: 256,
  budget: 20,
  params: {
    pattern: { type: "string", default: "yes|no", maxLength: 1000, description: "the regular expression that the reply matches" },
  },
  hooks({ params, tokens, model, state, emit }) {
    const automaton = new Automaton(params.pattern);
    const ends = new Set(model.eos);
    const reply = state(() => ({ text: "" }));
    let place = automaton.follow(automaton.start, reply.text);

    const texts = new Map<number, string>();
    const textOf = (id: number) => {
      let text = texts.get(id);
      if (text === undefined) texts.set(id, (text = tokens.decode(id)));
      return text;
    };
    // A part of a character is no text that could be looked at.
    const fits = (id: number, from: Place) => {
      const text = textOf(id);
      return !ends.has(id) && text !== "" && !text.includes("\ufffd") && automaton.follow(from, text) !== null;
    };
    const singles = (from: Place) => {
      const characters = new Set([...printable, "\n", "\t", ...Array.from(params.pattern)]);
      return Array.from(characters, (c) => Array.from(tokens.encode(c))).filter((ids) => ids.length === 1 && fits(ids[0], from)).map(([id]) => id);
    };

    return {
      token(t) {
        if (ends.has(t.id)) return;
        reply.text += t.text;
        place = automaton.follow(place, t.text);
      },
      logits(l) {
        if (!place) return; // somebody else has put a token there that does not fit
        const from = place;
        let left = Array.from(l.top(256).ids).filter((id) => fits(id, from));
        if (left.length === 0) left = from.singles ??= singles(from);
        l.only(from.matched ? [...left, ...Array.from(model.eos)] : left);
      },
      finish() {
        emit("regex", { matched: place !== null && place.matched, text: reply.text.slice(0, 1000) });
      },
    };
  },
});
