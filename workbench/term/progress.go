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

	mu          sync.Mutex
	stage       string
	begun       time.Time // the stage
	done, total int64
	late        *time.Timer // draws the line of a stage that says nothing more
	last        time.Time   // drawn
	shown       bool
	over        bool
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
	if stage != p.stage {
		p.begun = now
	}
	p.stage, p.done, p.total = stage, done, total
	switch wait := patience - now.Sub(p.start); {
	case wait > 0 && p.late == nil:
		p.late = time.AfterFunc(wait, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.draw(p.now())
		})
	case wait <= 0 && now.Sub(p.last) >= patience/10:
		p.draw(now)
	}
}

func (p *Progress) draw(now time.Time) {
	if p.over {
		return
	}
	p.last, p.shown = now, true
	if p.total <= 0 {
		fmt.Fprintf(p.w, "\r\x1b[K%s", Printable(p.stage))
		return
	}
	done := min(max(p.done, 0), p.total)
	share := float64(done) / float64(p.total)
	filled := int(share * float64(len(bar)))
	fmt.Fprintf(p.w, "\r\x1b[K%s [%-*s] %3d%% of %s%s", Printable(p.stage), len(bar), bar[:filled], int(share*100), Bytes(p.total), p.pace(done, now))
}

// pace is the rate of the stage and the time it has left, once it has run for long
// enough to tell.
func (p *Progress) pace(done int64, now time.Time) string {
	took := now.Sub(p.begun)
	if took < patience/2 || done == 0 {
		return ""
	}
	rate := float64(done) / took.Seconds()
	left := time.Duration(float64(p.total-done) / rate * float64(time.Second))
	return fmt.Sprintf(", %s/s, %v left", Bytes(int64(rate)), left.Round(time.Second))
}

// Above writes text where the line is; the line comes back below it.
func (p *Progress) Above(w io.Writer, text string) error {
	if p != nil && p.w != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.shown {
			fmt.Fprint(p.w, "\r\x1b[K")
			p.shown = false
		}
	}
	_, err := io.WriteString(w, text)
	return err
}

const bar = "=============================="

// Done takes the line away. Nothing is drawn after it.
func (p *Progress) Done() {
	if p == nil || p.w == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	if p.late != nil {
		p.late.Stop()
	}
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}
