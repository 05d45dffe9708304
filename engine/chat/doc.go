// Package chat turns a conversation into the text a model reads, and the text
// a model writes into an answer.
//
// Chat templates run as shipped: [Parse] reads the Jinja language that
// transformers 5 gives to templates (Jinja2 3.1.6, trim_blocks, lstrip_blocks,
// no autoescape, loop controls, its own tojson, immutable sandbox), and
// [Template.Render] runs one over a conversation, bounded in steps, depth and
// output. Every string remembers which of its bytes came from input data, so a
// [Rendering] says where control tokens must not be recognised: a user who
// writes <|im_end|> closes nothing.
//
// [Parser] is the way back: it splits what the model writes into reasoning,
// content and tool calls while it arrives.
//
// Where to look: lex.go, parse.go, parse_expr.go make the tree of ast.go;
// eval.go and eval_expr.go run it; filters*.go, tests.go, methods.go and
// globals.go are the vocabulary; value.go, text.go, number.go, print.go and
// json.go are the values; render.go does what transformers does around a
// template; load.go finds one in a model folder; output*.go read answers.
package chat
