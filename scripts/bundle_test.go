package scripts

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// files is a folder of scripts in memory.
func files(pairs ...string) fs.FS {
	folder := fstest.MapFS{}
	for i := 0; i < len(pairs); i += 2 {
		folder[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1])}
	}
	return folder
}

func TestBundle(t *testing.T) {
	b, err := build(context.Background(), files(
		"main.ts", `import { script } from "roundhouse"; import { one } from "./lib/one"; import list from "./list.json"; export default script({ api: one as number, list });`,
		"lib/one.ts", `import two from "../two.js"; export const one: number = two - 1;`,
		"two.js", `export default 2`,
		"list.json", `[1, 2, 3]`,
	), "main.ts")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.code, ": number") || !strings.Contains(b.sourceMap, `lib/one.ts`) {
		t.Errorf("%s\n%s", b.code, b.sourceMap)
	}
}

func TestBundleRefuses(t *testing.T) {
	big := strings.Repeat("x", maxSource+1)
	for name, c := range map[string]struct {
		text, want string
	}{
		"outside":        {`import "../secret"`, "outside the folder"},
		"absolute":       {`import "/etc/passwd"`, "is not there"},
		"package":        {`import "fs"`, "is not there"},
		"no such file":   {`import "./none"`, "main.ts:1:8"},
		"other kind":     {`import "./data.txt"`, "is not there"},
		"too large":      {`import "./big"`, "over 65536 bytes"},
		"syntax":         {"let a = 1;\nlet b = ;", "main.ts:2:9"},
		"big integer":    {`export default 1n`, "Big integer"},
		"await":          {`await 1`, "await"},
		"dynamic import": {`export default import("./" + globalThis.x)`, ""},
		"a folder":       {`import "./dir.ts"`, "no regular file"},
	} {
		_, err := build(context.Background(), files("main.ts", c.text, "data.txt", "", "big.ts", big, "dir.ts/x.ts", ""), "main.ts")
		var typed *LoadError
		if c.want == "" {
			continue // what is left of it throws when it runs
		}
		if !errors.As(err, &typed) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestLinksStayInTheFolder(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		name = filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write("secret.ts", "export default 1")
	write("scripts/fine.ts", "export default 1")
	write("scripts/out.ts", `import "./away"`)
	write("scripts/in.ts", `import "./near"`)
	if err := errors.Join(os.Symlink("../secret.ts", filepath.Join(dir, "scripts/away.ts")), os.Symlink("fine.ts", filepath.Join(dir, "scripts/near.ts"))); err != nil {
		t.Skip("no symbolic links here:", err)
	}
	folder, closer, err := OpenFolder(filepath.Join(dir, "scripts"))
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	if _, err := build(context.Background(), folder, "in.ts"); err != nil {
		t.Error(err)
	}
	if _, err := build(context.Background(), folder, "out.ts"); err == nil || !strings.Contains(err.Error(), "away.ts") {
		t.Errorf("a link out of the folder: %v", err)
	}
}
