package chat

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// TestLimits runs templates that want too much: each ends soon with an error
// that says what was too much.
func TestLimits(t *testing.T) {
	const huge = "{% set s = 'x' * 60000000 %}"
	for source, want := range map[string]string{
		"{% for a in range(100000) %}{% for b in range(100000) %}{{ b }}{% endfor %}{% endfor %}":                                "steps",
		"{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(1) }}":                                                                 "nested calls",
		"{% set ns = namespace(s='x') %}{% for a in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}":                       "bytes",
		"{% set ns = namespace(l=[1]) %}{% for a in range(100) %}{% set ns.l = ns.l + ns.l %}{% endfor %}":                       "steps",
		"{% set ns = namespace(l=[]) %}{% for a in range(2000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}":                  "levels",
		"{% set ns = namespace(l=[]) %}{% for a in range(2000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l|tojson }}":           "levels",
		"{% set ns = namespace(l=[]) %}{% for a in range(2000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l == [ns.l][0][0:] }}": "levels",
		"{{ 'x' * 1000000000000 }}":                                                   "bytes",
		"{{ ['x'] * 1000000000000 }}":                                                 "items",
		"{{ 'x'.ljust(1000000000000) }}":                                              "bytes",
		"{{ 'x'|center(1000000000000) }}":                                             "bytes",
		"{{ 'x'|indent(1000000000000) }}":                                             "bytes",
		"{{ '%1000000d' % 1 }}":                                                       "not supported",
		"{{ 10 ** 100000 }}":                                                          "too large",
		"{{ 10 ** (10 ** 10) }}":                                                      "too large",
		"{{ (10 ** 4000) * (10 ** 4000) }}":                                           "too large",
		"{{ range(1000000) }}":                                                        "range",
		"{{ range(0, 1000000000000000000000) }}":                                      "range",
		"{{ [1]|batch(1000000000, 0) }}":                                              "line count",
		"{{ {'a': 1}|tojson(indent=1000000) }}":                                       "indent",
		huge + "{% for a in range(1000) %}{{ s }}{% endfor %}":                        "bytes",
		huge + "{{ s|replace('x', s) }}":                                              "bytes",
		huge + "{{ s|list|length }}":                                                  "steps",
		huge + "{{ range(1000)|join(s) }}":                                            "bytes",
		huge + "{% for a in range(100000) %}{{ 'y' in s }}{% endfor %}":               "steps",
		strings.Repeat("{{ 1 }}", 10) + "{{ 1" + strings.Repeat(" + 1", 5000) + " }}": "nested calls",
	} {
		template, err := Parse(source)
		if err != nil {
			t.Errorf("%.80s: %v", source, err)
			continue
		}
		start := time.Now()
		r, err := template.Render(context.Background(), Input{Messages: oneMessage()})
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(e.Message, want) {
			t.Errorf("%.80s: got %d bytes, %v; want an error about %q", source, len(r.Text), err, want)
		}
		t.Logf("%8v %.80s: %v", time.Since(start).Round(time.Millisecond), source, err)
	}
}

func TestSmallPowers(t *testing.T) {
	template, err := Parse("{{ 1 ** (10 ** 30) }}{{ (-1) ** (10 ** 30 + 1) }}{{ 0 ** (10 ** 30) }}{{ 0 ** 0 }}{{ (-1) ** 0 }}")
	if err != nil {
		t.Fatal(err)
	}
	r, err := template.Render(context.Background(), Input{Messages: oneMessage()})
	if err != nil || r.Text != "1-1011" {
		t.Errorf("got %q, %v", r.Text, err)
	}
}

func TestNestingOfSource(t *testing.T) {
	for _, source := range []string{
		"{{ " + strings.Repeat("(", 100000) + " }}",
		"{{ " + strings.Repeat("[", 100000) + " }}",
		"{{ " + strings.Repeat("not ", 100000) + "1 }}",
		"{{ " + strings.Repeat("- ", 100000) + "1 }}",
		"{{ " + strings.Repeat("1 if 1 else ", 50000) + "1 }}",
		strings.Repeat("{% if 1 %}", 50000),
		"{% for " + strings.Repeat("(", 100000) + "a in b %}",
		strings.Repeat("x", maxSource+1),
	} {
		_, err := Parse(source)
		var e *Error
		if !errors.As(err, &e) || e.Kind != Syntax {
			t.Errorf("%.40s...: got %v, want a syntax error", source, err)
		}
	}
}

func TestContextEnds(t *testing.T) {
	template, err := Parse("{% for a in range(100000) %}{% for b in range(100) %}{{ b }}{% endfor %}{% endfor %}")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := template.Render(ctx, Input{Messages: oneMessage()}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the context's error", err)
	}
}

// TestErrorLines checks that errors name the line and what is wrong.
func TestErrorLines(t *testing.T) {
	for source, want := range map[string]string{
		"a\nb\n{{ c.d }}":                          "chat template line 3: 'c' is undefined",
		"{#\n\n#}{% for x in 5 %}{% endfor %}":     "chat template line 3: 'int' object is not iterable",
		"\n{% include 'x' %}":                      "chat template line 2: the tag 'include' is not supported in chat templates",
		"\n\n{{ x|urlize }}":                       "chat template line 3: the filter 'urlize' is not supported",
		"{% if x %}\n{% else %}":                   "chat template line 2: the block is not closed by endif",
		"{% if x %}\n\n\na":                        "chat template line 1: the block is not closed by elif or else or endif",
		"{% for x in y recursive %}{% endfor %}":   "chat template line 1: recursive loops are not supported: use a macro that calls itself",
		"{% set x %}\n\n{{ 1 + 'a' }}{% endset %}": "chat template line 3: unsupported operand type(s) for +: 'int' and 'str'",
		"{% macro f() %}\n{{ raise_exception('no') }}{% endmacro %}\n\n{{ f() }}": "chat template line 2: no",
		"{{ x }\n}":              "chat template line 1: unexpected '}'",
		"{% for a in b %}{{ a }": "chat template line 1: unexpected '}'",
		"{{ cycler() }}":         "chat template line 1: 'cycler' is not supported in chat templates",
		"{{ [].append(1) }}":     "chat template line 1: 'append' would change a list: values cannot be changed in a chat template, make a new one with set",
	} {
		template, err := Parse(source)
		if err == nil {
			_, err = template.Render(context.Background(), Input{Messages: oneMessage()})
		}
		if err == nil || err.Error() != want {
			t.Errorf("%q:\n got %v\nwant %s", source, err, want)
		}
	}
}

func TestStrftime(t *testing.T) {
	now := time.Date(2026, 3, 9, 4, 5, 6, 7000, time.UTC)
	template, err := Parse("{{ strftime_now('%d %b %Y|%-d %B %y|%A %a %j %H:%M:%S|%I %p|%F %T|%e|%m/%-m|%f|%%|%w%u') }}")
	if err != nil {
		t.Fatal(err)
	}
	r, err := template.Render(context.Background(), Input{Messages: oneMessage(), Now: now})
	if want := "09 Mar 2026|9 March 26|Monday Mon 068 04:05:06|04 AM|2026-03-09 04:05:06| 9|03/3|000007|%|11"; err != nil || r.Text != want {
		t.Errorf("got %q, %v, want %q", r.Text, err, want)
	}
}
