package host

import (
	"bytes"
	"strings"
	"sync"
	"time"
)

// Line is a line of a plugin's log.
type Line struct {
	Time  time.Time `json:"time"`
	Level string    `json:"level"` // debug, info, warn or error; stderr for what it wrote there, stdout for noise behind its handshake
	Text  string    `json:"text"`
}

// Bounds of a plugin's log.
const (
	maxLines     = 1000
	maxLineBytes = 2000
)

// logs keeps the newest lines of a plugin, over its launches.
type logs struct {
	mu    sync.Mutex
	lines []Line
	told  func(Line) // of each line
}

// liner makes lines of a level of what is written. One goroutine uses it at a time.
type liner struct {
	logs    *logs
	level   string
	partial []byte
}

// add adds a line.
func (l *logs) add(level, text string) {
	line := Line{time.Now(), level, strings.ToValidUTF8(text, "?")}
	l.mu.Lock()
	if l.lines = append(l.lines, line); len(l.lines) > maxLines {
		l.lines = append([]Line(nil), l.lines[len(l.lines)-maxLines/2:]...)
	}
	l.mu.Unlock()
	if l.told != nil {
		l.told(line)
	}
}

// Write implements io.Writer.
func (w *liner) Write(data []byte) (int, error) {
	rest := append(w.partial, data...)
	for {
		at := bytes.IndexByte(rest, '\n')
		if at < 0 && len(rest) > maxLineBytes {
			at = maxLineBytes
		}
		if at < 0 {
			break
		}
		w.logs.add(w.level, string(rest[:min(at, maxLineBytes)]))
		rest = rest[at:]
		rest = bytes.TrimPrefix(rest, []byte("\n"))
	}
	w.partial = append(w.partial[:0], rest...)
	return len(data), nil
}

// list returns the newest n lines; 0 for all that are kept.
func (l *logs) list(n int) []Line {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.lines
	if n > 0 && len(list) > n {
		list = list[len(list)-n:]
	}
	return append([]Line(nil), list...)
}

// maxRate is how much of a plugin's log and events is published, per second: the rest of
// what a flood brings is kept, and counted, but not told to everybody.
const maxRate = 100

// rate lets so much through.
type rate struct {
	mu     sync.Mutex
	second int64
	taken  int
	missed int
}

// take says whether one more may pass, and how many could not since the last that did.
func (r *rate) take() (ok bool, missed int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now().Unix(); now != r.second {
		r.second, r.taken = now, 0
	}
	if r.taken++; r.taken > maxRate {
		r.missed++
		return false, 0
	}
	missed, r.missed = r.missed, 0
	return true, missed
}
