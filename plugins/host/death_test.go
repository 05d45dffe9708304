package host

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/roundhouse-ai/roundhouse/plugins/wire"
)

// hostName is the name under which this program is a host of its own, with a folder before
// it.
const hostName = "as-host"

// beHost opens a host with the plugin "all" of a folder, says which process that is, and waits.
func beHost(dir string) {
	h, err := Open(Options{Dir: dir, Allow: []string{"all"}})
	if err != nil {
		panic(err)
	}
	p := h.Plugins()[0]
	if _, err := p.About(context.Background()); err != nil {
		panic(err)
	}
	fmt.Println(p.Stat().PID)
	select {}
}

// A host that is killed leaves no plugin, nor one that a shell stands before.
func TestDeathOfTheHost(t *testing.T) {
	before := count(t)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, command := range map[string]string{
		"itself":         fmt.Sprintf("command = [%q, %q]", program, "all"),
		"behind a shell": fmt.Sprintf("command = [\"sh\", \"-c\", %q]", program+" all; echo ended >&2"),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "all"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "all", "plugin.toml"), []byte(command), 0o600); err != nil {
				t.Fatal(err)
			}
			host := exec.Command(program, dir, hostName)
			own, err := os.MkdirTemp("", "d") // its sockets' folder stays behind in it
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(own)
			host.Env = append(os.Environ(), wire.CookieKey+"="+wire.CookieValue, "TMPDIR="+own)
			host.Stderr = os.Stderr
			out, err := host.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := host.Start(); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(out).ReadString('\n')
			pid, err2 := strconv.Atoi(strings.TrimSpace(line))
			if err != nil || err2 != nil {
				t.Fatal(err, err2)
			}
			group := func() []int {
				return processes(t, func(p string) bool { s := stat(p); return len(s) > 2 && s[2] == strconv.Itoa(pid) && s[0] != "Z" })
			}
			want := 1
			if name != "itself" {
				want = 2
			}
			if list := group(); len(list) != want {
				t.Fatalf("the plugin's processes: %v", list)
			}
			if err := host.Process.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			_ = host.Wait() // killed
			within(t, "the end of all", func() bool { return len(group()) == 0 })
			took := time.Since(began)
			if took > 2*time.Second {
				t.Errorf("the plugin was there for %v", took)
			}
			t.Logf("evidence: plugin of a host that is killed, %s: %.3f s <= 2", name, took.Seconds())
		})
	}
	before.compare(t)
}
