package host

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/roundhouse-ai/roundhouse/plugins/proto/roundhouse/plugin/v1"
)

// describing serves a raw plugin that says something else of itself.
func describing(change func(*pb.DescribeResponse)) func() {
	return func() { (&raw{describe: change}).serve() }
}

// forever waits: a program in Go whose goroutines all wait for nothing would end.
func forever() { time.Sleep(time.Hour) }

// shakes says a handshake, and waits.
func shakes(address func() string) func() {
	return func() { fmt.Println(address()); forever() }
}

// listening makes a socket in a folder, which says something to whoever connects.
func listening(dir, says string) string {
	path, err := filepath.Abs(filepath.Join(dir, "own.sock"))
	if err != nil {
		panic(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte(says))
		}
	}()
	return path
}

func socketDir() string { return os.Getenv("PLUGIN_UNIX_SOCKET_DIR") }

const plain = "\nmtls = false"

// short waits little for a start.
func soon(_ string, o *Options) { o.StartTimeout = 700 * time.Millisecond }

// launchFaults never come to a choice.
var launchFaults = []fault{
	{name: "not-there", what: "Has a program that is not there", manifest: `command = ["./nobody"]`, refused: "its program"},
	{name: "not-executable", what: "Has a program that cannot be executed", manifest: `command = ["./plugin.toml"]`, refused: "permission denied"},
	{name: "no-manifest", what: "Has a plugin.toml that says nothing", manifest: `` + " ", refused: "command says how the plugin is started"},
	{name: "not-a-program", what: "Has a program of zeros", manifest: `command = ["./zeros"]`, refused: "exec format error",
		options: func(dir string, _ *Options) {
			if err := os.WriteFile(filepath.Join(dir, "not-a-program", "zeros"), make([]byte, 100), 0o700); err != nil {
				panic(err)
			}
		}},
	{name: "pin", what: "Is not what its pin says", serve: func() {}, refused: "is not what plugins.pins says",
		options: func(_ string, o *Options) {
			program, err := os.Executable()
			if err != nil {
				panic(err)
			}
			o.Pins = []Pin{{Path: program, SHA256: strings.Repeat("0", 64)}}
		}},
	{name: "exits-first", what: "Exits before its handshake", serve: func() { os.Exit(5) }, refused: "ended before its handshake: exit status 5"},
	{name: "silent", what: "Says nothing", serve: forever, options: soon, refused: "has said nothing in the time that it has"},
	{name: "noise", what: "Prints before its handshake", serve: func() {
		fmt.Println("Loading the very large model ...")
		(&raw{}).serve()
	}, refused: `"Loading the very large model ...`},
	{name: "noise-bars", what: "Prints what looks like a handshake", serve: func() { fmt.Println("a|b|c|d|e|f"); forever() }, refused: `"a|b|c|d|e|f"`},
	{name: "noise-long", what: "Prints a megabyte without an end of line", serve: func() { fmt.Print(strings.Repeat("n", 1<<20)); forever() }, refused: `"nnnn`},
	{name: "protocol", what: "Speaks another version of the handshake", serve: func() { (&raw{protocol: 2}).serve() }, refused: `speaks version "2" of the handshake`},
	{name: "api", what: "Speaks another contract", serve: describing(func(m *pb.DescribeResponse) { m.Api = 7 }), refused: "it speaks the contract 7, and this host knows 1"},
	{name: "name", what: "Has a name that is none", serve: describing(func(m *pb.DescribeResponse) { m.Name = "../x" }), refused: `it calls itself "../x"`},
	{name: "version", what: "Has a version of 2 MB", serve: describing(func(m *pb.DescribeResponse) { m.Version = strings.Repeat("1", 2<<20) }), refused: "version or description of more than"},
	{name: "params-json", what: "Has parameters that are no JSON", serve: describing(func(m *pb.DescribeResponse) { m.ParamsJson = "{" }), refused: "its parameters"},
	{name: "params-schema", what: "Has a parameter of a type that there is not", serve: describing(func(m *pb.DescribeResponse) { m.ParamsJson = `{"a": {"type": "colour"}}` }), refused: "its parameters"},
	{name: "event", what: "Wants an event that there is not", serve: describing(func(m *pb.DescribeResponse) { m.Spec.Events = append(m.Spec.Events, 99) }), refused: "this version of the host has none"},
	{name: "observer", what: "Is an observer that edits", serve: describing(func(m *pb.DescribeResponse) { m.Spec.Observer = true }), refused: "an observer changes nothing"},
	{name: "budget", what: "Wants a budget of NaN", serve: describing(func(m *pb.DescribeResponse) { m.Spec.BudgetMs = float64(nan) }), refused: "budget_ms"},
	{name: "describe-hangs", what: "Never says what it is", serve: describing(func(*pb.DescribeResponse) { select {} }), options: soon, refused: "does not say what it is"},
	{name: "token", what: "Refuses the token of its launch", serve: func() {
		(&raw{unary: func(context.Context) error { return status.Error(codes.Unauthenticated, "who are you?") }}).serve()
	}, refused: "refuses this launch's token"},
	{name: "no-certificate", what: "Has no certificate, and is to have one", serve: func() {
		(&raw{}).serveWithout("PLUGIN_CLIENT_CERT")
	}, refused: "has no certificate for mutual TLS"},
	{name: "certificate", what: "Has a certificate, and is to have none", manifest: `command = [PROGRAM, "certificate"]` + plain, serve: func() {
		fmt.Println("1|1|unix|" + listening(socketDir(), "") + "|grpc|" + strings.Repeat("A", 400))
		forever()
	}, refused: "mtls = false"},
	{name: "socket-outside", what: "Listens outside of its folder", manifest: `command = [PROGRAM, "socket-outside"]` + plain,
		serve: shakes(func() string { return "1|1|unix|" + listening(".", "") + "|grpc|" }), refused: "is not in the folder PLUGIN_UNIX_SOCKET_DIR"},
	{name: "socket-tcp", what: "Listens on a port", manifest: `command = [PROGRAM, "socket-tcp"]` + plain,
		serve: shakes(func() string { return "1|1|tcp|127.0.0.1:1|grpc|" }), refused: "only a unix socket is taken"},
	{name: "socket-file", what: "Names a file for its socket", manifest: `command = [PROGRAM, "socket-file"]` + plain, serve: shakes(func() string {
		path := filepath.Join(socketDir(), "file")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			panic(err)
		}
		return "1|1|unix|" + path + "|grpc|"
	}), refused: "is no socket"},
	{name: "netrpc", what: "Speaks net/rpc", manifest: `command = [PROGRAM, "netrpc"]` + plain,
		serve: shakes(func() string { return "1|1|unix|" + listening(socketDir(), "") + "|netrpc|" }), refused: `unsupported plugin protocol "netrpc"`},
	{name: "garbage", what: "Speaks something else than gRPC on its socket", manifest: `command = [PROGRAM, "garbage"]` + plain, options: soon,
		serve: shakes(func() string {
			return "1|1|unix|" + listening(socketDir(), "HTTP/1.1 200 OK\r\n\r\nhello") + "|grpc|"
		}), refused: "the plugin garbage"},
	{name: "mute", what: "Takes connections, and says nothing on them", manifest: `command = [PROGRAM, "mute"]` + plain, options: soon,
		serve: shakes(func() string { return "1|1|unix|" + listening(socketDir(), "") + "|grpc|" }), refused: "the plugin mute"},
	{name: "impostor", what: "Has a process of another session listen in its place", manifest: `command = [PROGRAM, "impostor"]` + plain, options: soon, survives: true,
		serve: func() {
			if err := impostor(); err != nil {
				panic(err)
			}
			path := filepath.Join(socketDir(), "own.sock")
			for {
				if _, err := os.Lstat(path); err == nil {
					break
				}
				time.Sleep(time.Millisecond)
			}
			fmt.Println("1|1|unix|" + path + "|grpc|")
			forever()
		}, refused: "which is not of the plugin that was started"},
}

// impostor starts a process that listens, in a session of its own.
func impostor() error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	child := exec.Command(program, sleeper+"impostor")
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return child.Start()
}

// serveWithout serves without a variable of the environment.
func (r *raw) serveWithout(name string) {
	_ = os.Unsetenv(name)
	r.serve()
}
