package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// maxDepth of nested JSON values. Tool schemas of real agents stay below 20.
	maxDepth = 100
	// maxNumber is the longest number literal in bytes; the longest that says
	// anything to a float64 has some 770 digits.
	maxNumber = 1024
	// maxWarnings listed in a response.
	maxWarnings = 16
)

// Warning names a field of the request that had no effect.
type Warning struct {
	Param   string `json:"param"`
	Message string `json:"message"`
}

// fields are the fields of a request as they are taken, one by one. The first
// error sticks: later takes do nothing.
type fields struct {
	raw      map[string]json.RawMessage
	path     string // of this object in the request, for error messages
	warnings *[]Warning
	err      *Error
}

// parse reads a JSON object after checking the whole body.
func parse(body []byte) (*fields, *Error) {
	if err := checkJSON(body); err != nil {
		return nil, err
	}
	f := &fields{warnings: new([]Warning)}
	if err := json.Unmarshal(body, &f.raw); err != nil || f.raw == nil {
		return nil, refuse(http.StatusBadRequest, "invalid_json", "", "the request body must be a JSON object")
	}
	return f, nil
}

// object opens an object within the request.
func (f *fields) object(path string, raw json.RawMessage) (*fields, *Error) {
	o := &fields{path: path, warnings: f.warnings}
	if kindOf(raw) != "object" || json.Unmarshal(raw, &o.raw) != nil {
		return nil, invalid(path, "must be an object, not %s", kindOf(raw))
	}
	return o, nil
}

// param is the name of a field as error messages show it.
func (f *fields) param(name string) string {
	if f.path == "" {
		return name
	}
	return f.path + "." + name
}

// take moves the field's value to into and says whether there is one: null
// means the same as a field left out.
func (f *fields) take(name string, into any) bool {
	raw, ok := f.raw[name]
	delete(f.raw, name)
	if !ok || f.err != nil || string(raw) == "null" {
		return false
	}
	err := json.Unmarshal(raw, into)
	if err == nil {
		return true
	}
	var own *Error
	if errors.As(err, &own) {
		f.fail(own.Message, name)
	} else {
		f.fail(fmt.Sprintf("must be %s, not %s", wanted(into), describe(raw)), name)
	}
	return false
}

// fail notes an error about a field.
func (f *fields) fail(message, name string) {
	if f.err == nil {
		f.err = invalid(f.param(name), "%s", message)
	}
}

// between checks the range of a value that was given.
func between[T int | int64 | float64](f *fields, name string, v *T, low, high T) {
	if v != nil && (*v < low || *v > high) {
		f.fail(fmt.Sprintf("must be between %v and %v, not %v", low, high, *v), name)
	}
}

// number takes a number of a range.
func (f *fields) number(name string, into *float32, low, high float64) bool {
	var v float64
	if !f.take(name, &v) {
		return false
	}
	between(f, name, &v, low, high)
	*into = float32(v)
	return f.err == nil
}

// whole takes an integer of a range.
func (f *fields) whole(name string, into *int, low, high int) bool {
	if !f.take(name, into) {
		return false
	}
	between(f, name, into, low, high)
	return f.err == nil
}

// warn lists a field that has no effect.
func (f *fields) warn(param, message string) {
	if len(*f.warnings) < maxWarnings {
		if len(param) > 64 {
			param = strings.ToValidUTF8(param[:64], "") + "..."
		}
		*f.warnings = append(*f.warnings, Warning{param, message})
	}
}

// rest deals with the fields that nobody took: those that would change the
// result are refused, the others are listed as warnings.
func (f *fields) rest() *Error {
	for _, name := range slices.Sorted(maps.Keys(f.raw)) {
		raw := f.raw[name]
		if string(raw) == "null" {
			continue
		}
		if neutral, ok := changing[name]; ok {
			if f.err == nil && !slices.ContainsFunc(neutral, func(n string) bool { return sameJSON(n, raw) }) {
				f.err = unsupported(f.param(name), "%s is not supported by this server: leave it out%s", name, orNeutral(neutral))
			}
		} else if harmless[name] {
			f.warn(f.param(name), "accepted, has no effect")
		} else {
			f.warn(f.param(name), "unknown field, ignored")
		}
	}
	return f.err
}

// changing are fields of OpenAI and of other servers that change what comes
// out and that we do not act on, with the values that ask for nothing.
var changing = map[string][]string{
	"best_of": {"1"}, "suffix": {`""`}, "response_format": {`{"type":"text"}`},
	"modalities": {`["text"]`, "[]"}, "audio": nil, "web_search_options": nil, "moderation": nil,
	"functions": {"[]"}, "function_call": {`"none"`, `"auto"`}, "documents": {"[]"}, "mm_processor_kwargs": {"{}"},
	"min_tokens": {"0"}, "use_beam_search": {"false"}, "length_penalty": {"1"}, "logits_processors": {"[]"},
	"truncate_prompt_tokens": nil, "prompt_embeds": nil,
	"prompt_logprobs": nil, "include_stop_str_in_output": {"false"}, "skip_special_tokens": {"true"},
	"spaces_between_special_tokens": {"true"}, "add_special_tokens": {"false"}, "chat_template": nil,
	"guided_json": nil, "guided_regex": nil, "guided_choice": nil, "guided_grammar": nil, "structured_outputs": nil,
	"grammar": {`""`}, "json_schema": nil, "thinking_token_budget": nil, "tfs_z": {"1"}, "top_a": {"0"},
	"smoothing_factor": {"0"}, "no_repeat_ngram_size": {"0"}, "n_probs": {"0"}, "min_keep": {"0", "1"},
}

// harmless are fields about storage, billing and routing of a service.
var harmless = map[string]bool{
	"user": true, "store": true, "metadata": true, "service_tier": true, "safety_identifier": true,
	"prompt_cache_key": true, "prompt_cache_retention": true, "prompt_cache_options": true, "prediction": true,
	"reasoning_effort": true, "verbosity": true, "request_id": true, "cache_salt": true,
}

func orNeutral(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return " or send " + strings.Join(values, " or ")
}

// sameJSON compares scalars by value and the rest by their compact text.
func sameJSON(want string, raw json.RawMessage) bool {
	if a, err := strconv.ParseFloat(want, 64); err == nil {
		b, err := strconv.ParseFloat(string(raw), 64)
		return err == nil && a == b
	}
	var compact bytes.Buffer
	return json.Compact(&compact, raw) == nil && compact.String() == want
}

// kindOf names the JSON type of a valid value.
func kindOf(raw json.RawMessage) string {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return "nothing"
	}
	switch raw[0] {
	case '{':
		return "object"
	case '[':
		return "array"
	case '"':
		return "string"
	case 't', 'f':
		return "boolean"
	case 'n':
		return "null"
	default:
		return "number"
	}
}

// describe shows a scalar in an error message. Strings are not shown: they may
// be somebody's text.
func describe(raw json.RawMessage) string {
	kind := kindOf(raw)
	if (kind == "number" || kind == "boolean") && len(raw) <= 32 {
		return string(raw)
	}
	return "a value of type " + kind
}

func wanted(into any) string {
	switch into.(type) {
	case *string, **string:
		return "a string"
	case *bool, **bool:
		return "true or false"
	case *int, **int, *int64, **int64:
		return "an integer"
	case *float64, **float64:
		return "a number"
	case *[]int32:
		return "a list of token ids"
	case *[]json.RawMessage:
		return "a list"
	case *[]string:
		return "a list of texts"
	case *map[string]any:
		return "an object"
	case *map[string]float64:
		return "an object of numbers"
	default:
		return "of another type"
	}
}

// texts is a string or a list of strings.
type texts []string

// UnmarshalJSON reads either form.
func (t *texts) UnmarshalJSON(raw []byte) error {
	if kindOf(raw) == "string" {
		*t = texts{""}
		return json.Unmarshal(raw, &(*t)[0])
	}
	if json.Unmarshal(raw, (*[]string)(t)) != nil {
		return invalid("", "must be a string or a list of strings")
	}
	return nil
}

// checkJSON refuses bodies that are not JSON, that nest too deep, and texts
// that are not Unicode: encoding/json would turn lone surrogates and broken
// UTF-8 into U+FFFD without a word.
func checkJSON(body []byte) *Error {
	bad := func(at int, what string) *Error {
		return refuse(http.StatusBadRequest, "invalid_json", "", "the request body is not valid JSON: %s at byte %d", what, at)
	}
	if !utf8.Valid(body) {
		return refuse(http.StatusBadRequest, "invalid_json", "", "the request body is not valid UTF-8")
	}
	depth, digits, inString := 0, 0, false
	for i := 0; i < len(body); i++ {
		c := body[i]
		if inString {
			switch c {
			case '"':
				inString = false
			case '\\':
				n, ok := escapeLen(body[i:])
				if !ok {
					return bad(i, "half of a surrogate pair")
				}
				i += n - 1
			}
			continue
		}
		switch c {
		case '"':
			inString = true
		case '{', '[':
			if depth++; depth > maxDepth {
				return bad(i, fmt.Sprintf("more than %d nested values", maxDepth))
			}
		case '}', ']':
			depth--
		}
		if c >= '0' && c <= '9' {
			if digits++; digits > maxNumber {
				return bad(i, fmt.Sprintf("a number of more than %d digits", maxNumber))
			}
		} else {
			digits = 0
		}
	}
	var syntax *json.SyntaxError
	switch err := json.Unmarshal(body, new(json.RawMessage)); {
	case errors.As(err, &syntax):
		return bad(int(syntax.Offset), syntax.Error())
	case err != nil:
		return bad(0, err.Error())
	}
	return nil
}

// escapeLen returns the length of the escape that s begins with. ok is false
// for half of a surrogate pair; other errors are left to the JSON reader.
func escapeLen(s []byte) (n int, ok bool) {
	first, is := hexEscape(s)
	switch {
	case !is:
		return 2, true
	case first < 0xD800 || first > 0xDFFF:
		return 6, true
	}
	second, is := hexEscape(s[6:])
	return 12, first < 0xDC00 && is && second >= 0xDC00 && second <= 0xDFFF
}

// hexEscape reads \uXXXX.
func hexEscape(s []byte) (r uint64, ok bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	r, err := strconv.ParseUint(string(s[2:6]), 16, 16)
	return r, err == nil
}
