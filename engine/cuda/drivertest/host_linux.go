package drivertest

import (
	stdcontext "context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/kernels/host"
)

// spaceSize bounds what one host driver allocates in its life: addresses are not
// given out twice. Only what is touched takes memory.
const spaceSize = 1 << 40

// hostAddress is where it begins: far from anything that a process maps by itself.
const hostAddress driver.Ptr = 0x2000_0000_0000

const pageSize = 4096

// A hostDevice is the process that runs the kernels' own sources on memory that
// both map: there at the device's addresses, here wherever it fits.
type hostDevice struct {
	command  *exec.Cmd
	requests io.WriteCloser
	replies  io.ReadCloser
	space    []byte
	program  string
	launches uint32
	failed   error // the process is gone
}

func startHost(o host.Options) (_ *hostDevice, err error) {
	program, err := host.Build(stdcontext.Background(), o)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("roundhouse-device", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memory of the host device: %w", err)
	}
	file := os.NewFile(uintptr(fd), "roundhouse-device")
	defer file.Close() // both sides hold it by their mappings
	if err := file.Truncate(spaceSize); err != nil {
		return nil, fmt.Errorf("memory of the host device: %w", err)
	}
	h := &hostDevice{program: program}
	if h.space, err = unix.Mmap(fd, 0, spaceSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE); err != nil {
		return nil, fmt.Errorf("memory of the host device: %w", err)
	}
	requests, ours, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, unix.Munmap(h.space))
	}
	defer requests.Close()
	theirs, replies, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, ours.Close(), unix.Munmap(h.space))
	}
	defer replies.Close()
	h.requests, h.replies = ours, theirs
	h.command = exec.Command(program)
	h.command.Stdout, h.command.Stderr = os.Stderr, os.Stderr // what kernels print
	h.command.ExtraFiles = []*os.File{requests, replies, file}
	if err := h.command.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("host device: %w", err), ours.Close(), theirs.Close(), unix.Munmap(h.space))
	}
	if err := h.place('m', hostAddress, spaceSize); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

// close ends the process and waits for it.
func (h *hostDevice) close() error {
	err := errors.Join(h.requests.Close(), h.replies.Close())
	if waited := h.command.Wait(); h.failed == nil {
		err = errors.Join(err, waited)
	}
	return errors.Join(err, unix.Munmap(h.space))
}

// ask sends a request and waits for its answer.
func (h *hostDevice) ask(what byte, body []byte) error {
	if h.failed != nil {
		return h.failed
	}
	_, err := h.requests.Write(append(binary.LittleEndian.AppendUint32(nil, uint32(what)), body...))
	var head [8]byte
	if err == nil {
		_, err = io.ReadFull(h.replies, head[:])
	}
	if err != nil {
		h.failed = fmt.Errorf("the host device ended: %w", err)
		return h.failed
	}
	if binary.LittleEndian.Uint32(head[:]) == 0 {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(h.replies, int64(binary.LittleEndian.Uint32(head[4:]))))
	if err != nil {
		text = append(text, err.Error()...)
	}
	h.failed = errors.New(string(text))
	return h.failed
}

func (h *hostDevice) place(what byte, base driver.Ptr, size int64) error {
	return h.ask(what, binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, uint64(base)), uint64(size)))
}

// pagesOf are the whole pages around a block, whose last byte is one of the last
// 512 of a page: what lies behind has no access.
func pagesOf(b *block) (driver.Ptr, int64) {
	first := b.base / pageSize * pageSize
	last := (b.base + driver.Ptr(b.size) + pageSize - 1) / pageSize * pageSize
	return first, int64(last - first)
}

// alloc gives a block its bytes.
func (h *hostDevice) alloc(b *block) error {
	first, size := pagesOf(b)
	if int64(first-hostAddress)+size > spaceSize {
		return fmt.Errorf("more than %d bytes allocated in the life of a host device", int64(spaceSize))
	}
	at := b.base - hostAddress
	b.data = h.space[at : int64(at)+b.size : int64(at)+b.size]
	around := h.space[first-hostAddress:][:size]
	for i := range tail(b, around) {
		tail(b, around)[i] = canary
	}
	return h.place('a', first, size)
}

// canary fills what is left of a block's last page: as a number it is NaN.
const canary = 0xff

func tail(b *block, around []byte) []byte {
	return around[int64(b.base%pageSize)+b.size:]
}

// free takes a block away, and says whether something was written behind it.
func (h *hostDevice) free(b *block) error {
	first, size := pagesOf(b)
	around := h.space[first-hostAddress:][:size]
	var err error
	for i, v := range tail(b, around) {
		if v != canary {
			err = fmt.Errorf("byte %d behind the %d bytes at %#x was written", i, b.size, uint64(b.base))
			break
		}
	}
	if h.failed != nil {
		return err
	}
	return errors.Join(err, h.place('f', first, size), unix.Madvise(around, unix.MADV_REMOVE))
}

// launch runs a kernel to its end.
func (h *hostDevice) launch(space *memory, name string, l driver.Launch) error {
	h.launches++
	head := []uint32{l.Grid[0], l.Grid[1], l.Grid[2], l.Block[0], l.Block[1], l.Block[2], uint32(l.Shared), uint32(len(l.Args)), uint32(len(name)), h.launches}
	body := make([]byte, 0, 4*len(head)+len(name)+len(l.Args))
	for _, v := range head {
		body = binary.LittleEndian.AppendUint32(body, v)
	}
	alive := h.failed == nil
	err := h.ask('l', append(append(body, name...), l.Args...))
	if err != nil && alive {
		err = h.explain(space, err)
		h.failed = err
	}
	return err
}

var (
	address = regexp.MustCompile(`access to (0x[0-9a-f]+)`)
	counter = regexp.MustCompile(` pc (0x[0-9a-f]+)`)
)

// explain adds to a fault what lies at its address and which line it was.
func (h *hostDevice) explain(space *memory, fault error) error {
	text := fault.Error()
	if m := address.FindStringSubmatch(text); m != nil {
		var p uint64
		if _, err := fmt.Sscan(m[1], &p); err == nil {
			if _, err := space.bytes(driver.Ptr(p), 1); err != nil {
				text += ": " + err.Error()
			}
			if b := space.find(driver.Ptr(p)); b != nil {
				text += fmt.Sprintf("; below it lie %d bytes at %#x, which end %d bytes before", b.size, uint64(b.base), int64(p)-int64(b.base)-b.size)
			}
		}
	}
	if m := counter.FindStringSubmatch(text); m != nil {
		out, err := exec.Command("addr2line", "-Cfipse", h.program, m[1]).Output()
		if err == nil {
			text = strings.Replace(text, m[0], "", 1) + "\n" + strings.TrimSpace(string(out))
		}
	}
	return errors.New(text)
}
