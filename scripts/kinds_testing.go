package scripts

import (
	"github.com/dop251/goja"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/engine/hook/rehearse"
)

// testFunctions is the module "roundhouse/test".
func testFunctions() []member {
	return []member{
		{sig: "test(name: string, body: () => void): void", doc: "A test: it fails when its body throws.", do: doTest},
		{sig: "expect(value: unknown): Expectation", doc: "What a value is expected to be.", do: doExpect},
		{sig: "run<P extends { [name: string]: Param }>(script: Script<P>, options?: RunOptions<P>): Run", doc: "Runs a script, the default export of its file, in a choice that is made up: no model, no budgets. It throws what the script does wrong.", do: doRun},
		{sig: "replay<P extends { [name: string]: Param }>(script: Script<P>, file: string, params?: Partial<Values<P>>): Replay", doc: "Runs a script on what roundhouse --record-hooks wrote, a file beside the test; with the parameters of then, or with others. The text stays that of the recording, whatever the script chooses.", do: doReplay},
	}
}

// testKinds are the types of that module.
func testKinds() []*kind {
	return []*kind{runKind, rowKind, runModelKind, runRequestKind, courseKind, replayKind, stepKind, eventKind, steeredKind, steeredLayerKind, expectKind}
}

var runKind = &kind{name: "RunOptions", doc: "A choice that is made up. All of it may be left out.", members: []member{
	{sig: "params?: Partial<Values<P>>", doc: "As a request gives them.", theirs: true},
	{sig: "steps?: Row[]", doc: "One a token; one where there are none.", theirs: true},
	{sig: "prompt?: Ids | string", doc: "A text needs a vocabulary; the token 0.", theirs: true},
	{sig: "promptRouting?: Experts[]", doc: "What the prompt's rows were routed to, from the first on: for scripts that capture all.", theirs: true},
	{sig: "vocabulary?: string[]", doc: "The texts of the tokens, by id: the tokenizer.", theirs: true},
	{sig: "seed?: number", doc: "0.", theirs: true},
	{sig: "model?: RunModel", theirs: true},
	{sig: "request?: RunRequest", theirs: true},
}}

var rowKind = &kind{name: "Row", doc: "What is there for one token.", members: []member{
	{sig: "logits?: Scores", doc: "As they come to the script. Without, all tokens are alike.", theirs: true},
	{sig: "model?: Scores", doc: "The model's own; those above.", theirs: true},
	{sig: "token?: number", doc: "The token that is drawn, unless the script bans it; the most likely one that edits leave.", theirs: true},
	{sig: "routing?: Experts", doc: "What the row that reads the token is routed to.", theirs: true},
}}

var runModelKind = &kind{name: "RunModel", doc: "The model. What is left out is as large as the rest of the run needs it.", members: []member{
	{sig: "name?: string", theirs: true},
	{sig: "layers?: number", doc: "4 at least.", theirs: true},
	{sig: "experts?: number", doc: "8 at least.", theirs: true},
	{sig: "topK?: number", doc: "2 at least.", theirs: true},
	{sig: "hidden?: number", doc: "4.", theirs: true},
	{sig: "tokens?: number", doc: "1024 at least.", theirs: true},
	{sig: "eos?: Ids", doc: "Tokens that end the choice; none.", theirs: true},
}}

var runRequestKind = &kind{name: "RunRequest", doc: "The request.", members: []member{
	{sig: "id?: string", theirs: true},
	{sig: "maxTokens?: number", theirs: true},
	{sig: "choice?: number", theirs: true},
	{sig: "choices?: number", theirs: true},
	{sig: "body?: any", theirs: true},
}}

// of makes the value of a property of something.
func of[T any](get func(*vm, T) any) func(*vm, any) any {
	return func(v *vm, what any) any { return get(v, what.(T)) }
}

var courseKind = &kind{name: "Run", doc: "What came of a choice.", members: []member{
	{sig: "readonly steps: Step[]", doc: "In the order of events: a token that is drawn again has one for each draw.", of: of(func(v *vm, c *shown) any { return c.steps(v) })},
	{sig: "readonly ids: number[]", doc: "The tokens that were chosen, less those that were taken back.", of: of(func(v *vm, c *shown) any { return numbersOf(v, c.ids()) })},
	{sig: "readonly text: string", doc: "Theirs, by the vocabulary.", of: of(func(_ *vm, c *shown) any { return c.text() })},
	{sig: "readonly prompt: number[]", doc: "As the script left it.", of: of(func(v *vm, c *shown) any { return numbersOf(v, c.course.Prompt) })},
	{sig: "readonly steering?: Steered", doc: "Of the prompt's first row.", of: of(func(v *vm, c *shown) any { return c.steered(v, c.course.Steering) })},
	{sig: "readonly events: Event[]", doc: "What the script emitted.", of: of(func(v *vm, c *shown) any { return c.events(v) })},
	{sig: "readonly log: string[]", doc: "What it logged.", of: of(func(v *vm, c *shown) any { return c.log(v, everyStep) })},
	{sig: "readonly reason: string", doc: "Why it ended: \"length\" with its steps, \"stop\" with a token of eos, or what the script stopped it for.", of: of(func(_ *vm, c *shown) any { return c.course.Reason })},
}}

var replayKind = &kind{name: "Replay", doc: "What came of a choice that was recorded. It ends for the reason of then; \"end\" where the recording does.", extends: courseKind, members: []member{
	{sig: "readonly recorded: number[]", doc: "The tokens of then; ids are what would have been chosen now, as far as the script decides.", of: of(func(v *vm, c *shown) any { return numbersOf(v, c.recorded()) })},
}}

// setValue makes a property of a setting of the sampling chain.
func setValue(sig string, setting hook.Setting) member {
	return member{sig: sig, of: of(func(_ *vm, s *shownStep) any {
		if s.Edits != nil {
			if x, set := s.Edits.Values.Get(setting); set {
				return x
			}
		}
		return nil
	})}
}

var stepKind = &kind{name: "Step", doc: "What the script made of one token. Settings of the sampler are there where it set them.", members: []member{
	{sig: "readonly position: number", of: of(func(_ *vm, s *shownStep) any { return s.Position })},
	{sig: "readonly attempt: number", doc: "Counts what was taken back.", of: of(func(_ *vm, s *shownStep) any { return s.Attempt })},
	{sig: "readonly id?: number", doc: "The token that was chosen.", of: of(func(_ *vm, s *shownStep) any { return positive(int(s.ID)) })},
	{sig: "readonly chosen: boolean", doc: "sample returned it.", of: of(func(_ *vm, s *shownStep) any { return s.Chosen })},
	{sig: "readonly forced: boolean", doc: "It was injected.", of: of(func(_ *vm, s *shownStep) any { return s.Forced })},
	{sig: "readonly bias: { [id: number]: number }", doc: "Added to logits, behind the scale.", of: of(func(v *vm, s *shownStep) any { return s.bias(v) })},
	{sig: "readonly scale: number", doc: "1 for none.", of: of(func(_ *vm, s *shownStep) any { return s.scale() })},
	{sig: "readonly banned: number[]", doc: "Ascending.", of: of(func(v *vm, s *shownStep) any { return s.banned(v) })},
	{sig: "readonly only?: number[]", doc: "What it left to draw, where it said so.", of: of(func(v *vm, s *shownStep) any { return s.only(v) })},
	setValue("readonly temperature?: number", hook.Temperature), setValue("readonly topK?: number", hook.TopK), setValue("readonly topP?: number", hook.TopP),
	setValue("readonly minP?: number", hook.MinP), setValue("readonly typical?: number", hook.Typical),
	{sig: "readonly steering?: Steered", doc: "In force for the row that reads the token.", of: of(func(v *vm, s *shownStep) any { return s.run.steered(v, s.Steering) })},
	{sig: "readonly events: { [name: string]: any }", doc: "What was emitted of this position: the last value of each name.", of: of(func(v *vm, s *shownStep) any { return s.events(v) })},
	{sig: "readonly log: string[]", of: of(func(v *vm, s *shownStep) any { return s.run.log(v, s.index) })},
	{sig: "readonly stop?: string", doc: "Why the choice was ended with this token.", of: of(func(_ *vm, s *shownStep) any { return filled(s.Stop) })},
	{sig: "readonly rewind?: number", doc: "The position that tokens were then taken back to.", of: of(func(_ *vm, s *shownStep) any { return positive(s.Rewind) })},
}}

// positive is a number, or nothing for one below 0.
func positive(n int) any {
	if n < 0 {
		return nil
	}
	return n
}

// filled is a text, or nothing for an empty one.
func filled(s string) any {
	if s == "" {
		return nil
	}
	return s
}

var eventKind = &kind{name: "Event", doc: "Something that was emitted.", members: []member{
	{sig: "readonly position: number", of: of(func(_ *vm, n *rehearse.Notice) any { return n.Position })},
	{sig: "readonly name: string", of: of(func(_ *vm, n *rehearse.Notice) any { return n.Name })},
	{sig: "readonly value: any", of: of(func(v *vm, n *rehearse.Notice) any { return v.told(n.Value) })},
}}

var steeredKind = &kind{name: "Steered", doc: "Steering in force, as the API's field steer has it.", members: []member{
	{sig: "readonly layers?: { [layer: string]: SteeredLayer }", theirs: true},
	{sig: "readonly vectors?: { name?: string; values?: number[]; layer: number; scale: number }[]", doc: "Without values where they have a name.", theirs: true},
	{sig: "readonly decode_only?: boolean", theirs: true},
}}

var steeredLayerKind = &kind{name: "SteeredLayer", members: []member{
	{sig: "readonly bias?: { [expert: string]: number }", theirs: true},
	{sig: "readonly scale?: { [expert: string]: number }", theirs: true},
	{sig: "readonly ban?: number[]", theirs: true},
	{sig: "readonly force?: number[]", theirs: true},
	{sig: "readonly gate?: number", theirs: true},
	{sig: "readonly top_k?: number", theirs: true},
}}

var expectKind = &kind{name: "Expectation", doc: "Each throws where it is not so.", members: []member{
	{sig: "readonly not: Expectation", doc: "The contrary.", get: func(v *vm, c goja.FunctionCall) goja.Value {
		e := *receiver[*expectation](v, c)
		e.not = !e.not
		return v.object(v.holds(c.This).kind, &e)
	}},
	{sig: "toBe(value: unknown): void", doc: "The same value.", do: expects((*expectation).toBe)},
	{sig: "toEqual(value: unknown): void", doc: "The same in all that it holds; typed arrays are like arrays, and what is undefined is not there.", do: expects((*expectation).toEqual)},
	{sig: "toBeCloseTo(value: number, digits?: number): void", doc: "Less than half of the last of so many digits behind the point away; 2.", do: expects((*expectation).toBeCloseTo)},
	{sig: "toBeGreaterThan(value: number): void", do: expects((*expectation).toBeGreaterThan)},
	{sig: "toBeLessThan(value: number): void", do: expects((*expectation).toBeLessThan)},
	{sig: "toContain(value: unknown): void", doc: "A text that a text holds, or an element that a list does.", do: expects((*expectation).toContain)},
	{sig: "toThrow(text?: string): void", doc: "The function throws, and says the text among the rest.", do: expects((*expectation).toThrow)},
}}
