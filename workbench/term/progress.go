package term

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// patience is how long something may take before a progress line is worth it.
const patience = time.Second

// Progress keeps one line about something that takes long. It writes only to a
// terminal and only from the second second on; Done takes the line away. The
// zero value and nil say nothing.
type Progress struct {
	w     io.Writer // nil: silent
	now   func() time.Time
	start time.Time

	mu    sync.Mutex
	last  time.Time
	shown bool
}

// NewProgress reports on f if it is a terminal.
func NewProgress(f *os.File) *Progress {
	p := &Progress{now: time.Now, start: time.Now()}
	if IsTerminal(f) {
		p.w = f
	}
	return p
}

// Update shows a stage and how far it is, in bytes; total 0 means unknown. It
// returns at once and draws at most ten times a second.
func (p *Progress) Update(stage string, done, total int64) {
	if p == nil || p.w == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if now.Sub(p.start) < patience || now.Sub(p.last) < patience/10 {
		return
	}
	p.last, p.shown = now, true
	if total <= 0 {
		fmt.Fprintf(p.w, "\r\x1b[K%s", Printable(stage))
		return
	}
	done = min(max(done, 0), total)
	const width = 30
	filled := int(float64(done) / float64(total) * width)
	fmt.Fprintf(p.w, "\r\x1b[K%s [%-*s] %3d%% of %s", Printable(stage), width, bar[:filled], int(float64(done)/float64(total)*100), Bytes(total))
}

const bar = "=============================="

// Done takes the line away.
func (p *Progress) Done() {
	if p == nil || p.w == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}
