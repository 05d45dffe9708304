package host

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// attributes puts a plugin in a process group of its own, and has the system kill it when
// the host dies, however it does.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// awaitExit waits for a child to end, and leaves its state for Wait.
func awaitExit(cmd *exec.Cmd) {
	for {
		if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// checkPeer says whether the other end of a socket is the plugin: of our user, and of the
// group of processes that was started.
func checkPeer(conn *net.UnixConn, group int) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	if ctlErr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); ctlErr != nil {
		return ctlErr
	}
	if err != nil {
		return err
	}
	if int(cred.Uid) != os.Getuid() {
		return fmt.Errorf("the socket belongs to user %d, and not to this one, %d", cred.Uid, os.Getuid())
	}
	if got, err := unix.Getpgid(int(cred.Pid)); err != nil || got != group {
		return fmt.Errorf("process %d listens on the socket, which is not of the plugin that was started", cred.Pid)
	}
	return nil
}
