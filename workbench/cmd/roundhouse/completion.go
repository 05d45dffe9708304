//go:build unix

package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

// verb is a node of the grammar as completion scripts need it.
type verb struct {
	path  string // "config show", "" for the program itself
	verbs []word
	flags []option
	args  string // what positional arguments take: FILE, DIR, words, or ""
}

type word struct{ name, help string }

type option struct {
	word
	takes  bool
	values string // FILE, DIR, words, or ""
}

// verbsOf lists the program and every verb below it.
func verbsOf(node *kong.Node, path string, inherited []option) (all []verb) {
	v := verb{path: path, flags: inherited}
	for _, f := range node.Flags {
		v.flags = append(v.flags[:len(v.flags):len(v.flags)],
			option{word{"--" + f.Name, f.Help}, !f.IsBool(), f.Tag.Get("complete")})
	}
	for _, p := range node.Positional {
		if v.args == "" {
			v.args = p.Tag.Get("complete")
		}
	}
	all = append(all, v)
	for _, child := range node.Children {
		all[0].verbs = append(all[0].verbs, word{child.Name, child.Help})
		all = append(all, verbsOf(child, strings.TrimSpace(path+" "+child.Name), v.flags)...)
	}
	return all
}

// writeCompletion prints the script of a shell.
func writeCompletion(w io.Writer, app *kong.Application, shell string) error {
	verbs := verbsOf(app.Node, "", nil)
	script := map[string]func([]verb) string{"bash": bashScript, "zsh": zshScript, "fish": fishScript}[shell]
	_, err := io.WriteString(w, script(verbs))
	return err
}

// quoteWord makes one word of POSIX shells and fish.
func quoteWord(s string) string {
	return "'" + strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), "'", `'\''`) + "'"
}

func names(words []word) string {
	var list []string
	for _, w := range words {
		list = append(list, w.name)
	}
	return strings.Join(list, " ")
}

func bashScript(verbs []verb) string {
	var b strings.Builder
	b.WriteString(`# bash completion of roundhouse: source <(roundhouse completion bash)
_roundhouse() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} path='' word i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    case "$path $word" in
`)
	for _, v := range verbs[1:] {
		parent, name := "", v.path
		if at := strings.LastIndexByte(v.path, ' '); at >= 0 {
			parent, name = v.path[:at], v.path[at+1:]
		}
		fmt.Fprintf(&b, "      '%s %s') path='%s' ;;\n", parent, name, v.path)
	}
	b.WriteString("    esac\n  done\n  case \"$prev\" in\n")
	for _, f := range distinctFlags(verbs) {
		if f.takes {
			fmt.Fprintf(&b, "    %s) COMPREPLY=($(compgen %s -- \"$cur\")); return ;;\n", f.name, bashValues(f.values))
		}
	}
	b.WriteString("  esac\n  case \"$path\" in\n")
	for _, v := range verbs {
		var flags []word
		for _, f := range v.flags {
			flags = append(flags, f.word)
		}
		fmt.Fprintf(&b, "    '%s')\n      if [[ $cur == -* ]]; then COMPREPLY=($(compgen -W '%s' -- \"$cur\"))\n", v.path, names(flags))
		values := bashValues(v.args)
		if len(v.verbs) > 0 {
			values = "-W '" + names(v.verbs) + "'"
		}
		fmt.Fprintf(&b, "      else COMPREPLY=($(compgen %s -- \"$cur\")); fi ;;\n", values)
	}
	b.WriteString("  esac\n}\ncomplete -o filenames -F _roundhouse roundhouse\n")
	return b.String()
}

func bashValues(values string) string {
	switch values {
	case "FILE":
		return "-f"
	case "DIR":
		return "-d"
	default:
		return "-W '" + values + "'"
	}
}

// distinctFlags lists every flag once; a name means the same everywhere.
func distinctFlags(verbs []verb) (all []option) {
	seen := map[string]bool{}
	for _, v := range verbs {
		for _, f := range v.flags {
			if !seen[f.name] {
				seen[f.name] = true
				all = append(all, f)
			}
		}
	}
	return all
}

func zshScript(verbs []verb) string {
	var b strings.Builder
	b.WriteString("#compdef roundhouse\n# zsh completion of roundhouse\n")
	for _, v := range verbs {
		fmt.Fprintf(&b, "\n%s() {\n", zshName(v.path))
		if len(v.verbs) > 0 {
			b.WriteString("  local -a verbs=(\n")
			for _, w := range v.verbs {
				fmt.Fprintf(&b, "    %s\n", quoteWord(w.name+":"+w.help))
			}
			b.WriteString("  )\n")
		}
		b.WriteString("  _arguments -C")
		for _, f := range v.flags {
			spec := f.name
			help := strings.NewReplacer("[", `\[`, "]", `\]`, ":", `\:`).Replace(f.help)
			if f.takes {
				spec += "=[" + help + "]:value:" + zshValues(f.values)
			} else {
				spec += "[" + help + "]"
			}
			fmt.Fprintf(&b, " \\\n    %s", quoteSingle(spec))
		}
		switch {
		case len(v.verbs) > 0:
			b.WriteString(" \\\n    '1:verb:{_describe verb verbs}' '*::argument:->rest'\n  [[ $state == rest ]] && case $words[1] in\n")
			for _, w := range v.verbs {
				fmt.Fprintf(&b, "    %s) %s ;;\n", w.name, zshName(strings.TrimSpace(v.path+" "+w.name)))
			}
			b.WriteString("  esac\n}\n")
		case v.args != "":
			fmt.Fprintf(&b, " \\\n    %s\n}\n", quoteSingle("*:argument:"+zshValues(v.args)))
		default:
			b.WriteString("\n}\n")
		}
	}
	b.WriteString("\n_roundhouse \"$@\"\n")
	return b.String()
}

func quoteSingle(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func zshName(path string) string {
	return strings.TrimSuffix("_roundhouse_"+strings.ReplaceAll(path, " ", "_"), "_")
}

func zshValues(values string) string {
	switch values {
	case "FILE":
		return "_files"
	case "DIR":
		return "_files -/"
	case "":
		return " "
	default:
		return "(" + values + ")"
	}
}

func fishScript(verbs []verb) string {
	var b strings.Builder
	b.WriteString("# fish completion of roundhouse\n")
	for _, v := range verbs {
		when := fishCondition(v)
		for _, w := range v.verbs {
			fmt.Fprintf(&b, "complete -c roundhouse -f -n %s -a %s -d %s\n", when, w.name, quoteWord(w.help))
		}
		if len(v.verbs) == 0 {
			fmt.Fprintf(&b, "complete -c roundhouse -n %s %s\n", when, fishValues(v.args))
		}
		for _, f := range v.flags {
			line := fmt.Sprintf("complete -c roundhouse -n %s -l %s -d %s", when, strings.TrimPrefix(f.name, "--"), quoteWord(f.help))
			if f.takes {
				line += " -r " + fishValues(f.values)
			}
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

// fishCondition holds while the words before the cursor select the verb.
func fishCondition(v verb) string {
	var parts []string
	for name := range strings.FieldsSeq(v.path) {
		parts = append(parts, "__fish_seen_subcommand_from "+name)
	}
	if len(v.verbs) > 0 {
		parts = append(parts, "not __fish_seen_subcommand_from "+names(v.verbs))
	}
	return quoteSingle(strings.Join(parts, "; and "))
}

func fishValues(values string) string {
	switch values {
	case "FILE":
		return "-F"
	case "DIR":
		return "-f -a '(__fish_complete_directories)'"
	case "":
		return "-f"
	default:
		return "-f -a " + quoteWord(values)
	}
}
