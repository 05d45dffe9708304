package cuda

import (
	"fmt"
	"unsafe"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// block is where the step block of one class of passes lies on the device, and
// how much it holds. Its parts lie one after another: rows, segments, wanted rows,
// page tables.
type block struct {
	at                     driver.Ptr
	rows, segments, wanted int
	pages                  int // entries of all page tables
}

const (
	rowBytes     = int(unsafe.Sizeof(kernels.Row{}))
	segmentBytes = int(unsafe.Sizeof(kernels.Segment{}))
	wantedBytes  = int(unsafe.Sizeof(kernels.Wanted{}))
)

func (k block) fixed() int { return k.rows*rowBytes + k.segments*segmentBytes + k.wanted*wantedBytes }
func (k block) bytes() int { return k.fixed() + 4*k.pages }

// addresses fills in where a pass finds the block's parts.
func (k block) addresses(p *pass) {
	p.row = k.at
	p.segment = p.row + driver.Ptr(k.rows*rowBytes)
	p.want = p.segment + driver.Ptr(k.segments*segmentBytes)
	p.pages = p.want + driver.Ptr(k.wanted*wantedBytes)
}

// piece is a run of rows of one segment of a step: what a pass holds of it.
type piece struct {
	segment     *ops.Segment
	first       int // row in the step
	offset, len int // in the segment
	logits      int // of the rows of logits before the segment
}

// cut sorts the rows of a step into passes: those of decode and replay segments,
// up to decodeRows at a time, then each prefill segment.
func cut(step *ops.Step) (passes [][]piece) {
	var decode []piece
	room := decodeRows
	each(step, func(at piece) {
		if at.segment.Kind == ops.Prefill {
			return
		}
		for left := at.len; left > 0; {
			part := at
			part.len = min(left, room)
			decode = append(decode, part)
			at.first, at.offset = at.first+part.len, at.offset+part.len
			left, room = left-part.len, room-part.len
			if room == 0 {
				passes, decode, room = append(passes, decode), nil, decodeRows
			}
		}
	})
	if len(decode) > 0 {
		passes = append(passes, decode)
	}
	each(step, func(at piece) {
		if at.segment.Kind == ops.Prefill {
			passes = append(passes, []piece{at})
		}
	})
	return passes
}

// each walks over the segments of a step, each a piece as a whole.
func each(step *ops.Step, visit func(piece)) {
	first, logits := 0, 0
	for i := range step.Segments {
		s := &step.Segments[i]
		visit(piece{segment: s, first: first, len: s.Len, logits: logits})
		first, logits = first+s.Len, logits+len(s.Logits)
	}
}

// check refuses a step that does not fit what was recorded.
func (p *program) check(step *ops.Step) error {
	if n := step.Rows(); n == 0 || n > p.rows {
		return fmt.Errorf("cuda: step of %d rows for a program of 1 to %d", n, p.rows)
	}
	total, wanted := 0, 0
	for i := range step.Segments {
		s := &step.Segments[i]
		if s.Len < 1 || s.Start < 0 || s.Kind == ops.Decode && s.Len != 1 {
			return fmt.Errorf("cuda: %v segment of %d tokens from position %d", s.Kind, s.Len, s.Start)
		}
		if need := (s.Start + s.Len + ops.PageTokens - 1) / ops.PageTokens; len(s.Pages) < need {
			return fmt.Errorf("cuda: segment to position %d has %d KV pages, needs %d", s.Start+s.Len, len(s.Pages), need)
		}
		for _, offset := range s.Logits {
			if offset < 0 || offset >= s.Len {
				return fmt.Errorf("cuda: logits asked at offset %d of a segment of %d tokens", offset, s.Len)
			}
		}
		if s.Slot < 0 || s.Slot >= p.b.options.Streams {
			return fmt.Errorf("cuda: segment of state slot %d, there are %d", s.Slot, p.b.options.Streams)
		}
		total, wanted = total+s.Len, wanted+len(s.Logits)
	}
	if total != step.Rows() {
		return fmt.Errorf("cuda: segments of %d tokens for %d ids", total, step.Rows())
	}
	if wanted > p.wanted {
		return fmt.Errorf("cuda: logits of %d rows asked for, at most %d fit", wanted, p.wanted)
	}
	if err := p.checkBetween(step); err != nil {
		return err
	}
	for _, id := range step.IDs {
		if p.vocab > 0 && int(id) >= p.vocab || id < 0 && int(^id) >= maxDrawn {
			return fmt.Errorf("cuda: token id %d outside the vocabulary of %d", id, p.vocab)
		}
	}
	return nil
}

// fill writes the step block of a pass to pinned memory and returns how much of it
// is used. steer gives the steering table of a segment, -1 for none.
func (k block) fill(to []byte, step *ops.Step, pieces []piece, steer func(*ops.Segment) int32) int {
	rows := part[kernels.Row](to, 0, k.rows)
	segments := part[kernels.Segment](to, k.rows*rowBytes, k.segments)
	wanted := part[kernels.Wanted](to, k.rows*rowBytes+k.segments*segmentBytes, k.wanted)
	pages := part[int32](to, k.fixed(), k.pages)
	row, want, page := 0, 0, 0
	for i, at := range pieces {
		s := at.segment
		start := s.Start + at.offset
		segments[i] = kernels.Segment{Slot: int32(s.Slot), Start: int32(start), First: int32(row), Len: int32(at.len), Page: int32(page)}
		table := steer(s)
		for j := range at.len {
			rows[row+j] = kernels.Row{ID: step.IDs[at.first+j], Position: int32(start + j), Slot: int32(s.Slot),
				Page: int32(page), Steer: table, Segment: int32(i), Offset: int32(j), Source: int32(at.first + j)}
		}
		for j, offset := range s.Logits {
			if offset >= at.offset && offset < at.offset+at.len {
				wanted[want] = kernels.Wanted{Row: int32(row + offset - at.offset), To: int32(at.logits + j)}
				want++
			}
		}
		row += at.len
		page += copy(pages[page:], s.Pages[:(start+at.len+ops.PageTokens-1)/ops.PageTokens])
	}
	for i := row; i < k.rows; i++ {
		rows[i] = kernels.Row{Slot: -1, Steer: -1}
	}
	for i := len(pieces); i < k.segments; i++ {
		segments[i] = kernels.Segment{}
	}
	for i := want; i < k.wanted; i++ {
		wanted[i] = kernels.Wanted{To: -1}
	}
	return k.fixed() + 4*page
}

// part is n values of pinned memory from a byte on.
func part[T any](of []byte, from, n int) []T {
	var zero T
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&of[from : from+n*int(unsafe.Sizeof(zero))][0])), n)
}
