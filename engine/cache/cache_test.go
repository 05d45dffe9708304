package cache

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// books is an arena that only counts.
type books struct{ used int64 }

func (b *books) Alloc(_ string, t ops.Type, n int64) (ops.Buf, error) {
	b.used += n * t.Size()
	return ops.Buf{Addr: 64, Len: n, Type: t}, nil
}
func (b *books) Mark() int64   { return b.used }
func (b *books) Release(int64) {}
func (b *books) Used() int64   { return b.used }
func (b *books) Close() error  { return nil }

var shape = Shape{Attention: []bool{false, false, false, true},
	Attn:  ops.AttentionShape{KVHeads: 2, HeadDim: 8},
	Delta: ops.DeltaNetShape{KeyHeads: 2, ValueHeads: 4, KeyDim: 8, ValueDim: 8, Kernel: 4}}

func newCache(t interface{ Fatal(...any) }, pages, slots int) *Cache {
	memory := &books{}
	c, err := New(memory, shape, pages, slots)
	if err != nil {
		t.Fatal(err)
	}
	if memory.used > shape.Bytes(pages, slots) {
		t.Fatal("the cache takes more than Bytes says")
	}
	return c
}

// Whatever comes and goes: no page or slot is in two places, and all come back.
func TestPoolsNeverLeakOrShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pages, slots := rapid.IntRange(1, 12).Draw(t, "pages"), rapid.IntRange(1, 4).Draw(t, "slots")
		c := newCache(t, pages, slots)
		var alive []*Sequence
		for range rapid.IntRange(1, 40).Draw(t, "moves") {
			if len(alive) > 0 && rapid.Bool().Draw(t, "release") {
				i := rapid.IntRange(0, len(alive)-1).Draw(t, "which")
				alive[i].Release()
				alive[i].Release() // a second call does nothing
				alive = slices.Delete(alive, i, i+1)
				continue
			}
			tokens := rapid.IntRange(1, pages*ops.PageTokens).Draw(t, "tokens")
			ctx, cancel := context.WithCancel(context.Background())
			freePages, freeSlots, _ := c.Free()
			fits := PagesFor(tokens) <= freePages && freeSlots > 0
			if !fits {
				cancel() // nobody will release while we wait
			}
			s, err := c.Acquire(ctx, tokens)
			cancel()
			if fits != (err == nil) {
				t.Fatalf("%d pages of %d free, %d slots: %v", PagesFor(tokens), freePages, freeSlots, err)
			}
			if err == nil {
				alive = append(alive, s)
			}
			used := map[int32]bool{}
			usedSlots := map[int]bool{}
			for _, s := range alive {
				if usedSlots[s.Slot] {
					t.Fatalf("slot %d is in two sequences", s.Slot)
				}
				usedSlots[s.Slot] = true
				for _, p := range s.Pages {
					if used[p] {
						t.Fatalf("page %d is in two sequences", p)
					}
					used[p] = true
				}
			}
		}
		for _, s := range alive {
			s.Release()
		}
		if p, s, w := c.Free(); p != pages || s != slots || w != 0 {
			t.Fatalf("in the end %d of %d pages, %d of %d slots, %d waiting", p, pages, s, slots, w)
		}
	})
}

// A long admission is not overtaken by short ones that came later.
func TestAdmissionsAreServedInOrder(t *testing.T) {
	c := newCache(t, 4, 4)
	first, err := c.Acquire(context.Background(), 2*ops.PageTokens)
	if err != nil {
		t.Fatal(err)
	}
	order := make(chan string, 2)
	var wait sync.WaitGroup
	enter := func(name string, tokens int) {
		_, _, before := c.Free()
		wait.Go(func() {
			s, err := c.Acquire(context.Background(), tokens)
			if err != nil {
				t.Error(err)
				return
			}
			order <- name
			s.Release()
		})
		for _, _, now := c.Free(); now == before; _, _, now = c.Free() {
			time.Sleep(time.Millisecond)
		}
	}
	enter("long", 4*ops.PageTokens)
	enter("short", 1)
	first.Release()
	wait.Wait()
	if a, b := <-order, <-order; a != "long" || b != "short" {
		t.Errorf("served %s, then %s", a, b)
	}
}

func TestAcquireRefusesWhatNeverFits(t *testing.T) {
	c := newCache(t, 2, 1)
	if _, err := c.Acquire(context.Background(), 3*ops.PageTokens); err == nil {
		t.Error("three pages of a pool of two")
	}
	held, err := c.Acquire(context.Background(), 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("why")
	cancel(why)
	if _, err := c.Acquire(ctx, 1); !errors.Is(err, why) {
		t.Errorf("cancelled wait: %v", err)
	}
	held.Release()
}

// Sequences that begin with the same tokens share full pages, which come back
// when the last lets go, and nothing else.
func TestSharedPages(t *testing.T) {
	c := newCache(t, 10, 3)
	turn := c.NewTurn()
	need := Need{Tokens: 4 * ops.PageTokens, Count: 3, Shared: 2*ops.PageTokens + 1}
	if need.Pages() != 2+3*2 || !c.Fits(need) || c.Fits(Need{Tokens: 4 * ops.PageTokens, Count: 3}) {
		t.Errorf("three sequences of 4 pages, 2 of them shared, need %d pages", need.Pages())
	}
	forks, ok := turn.TryAcquire(need)
	if pages, slots, _ := c.Free(); !ok || pages != 2 || slots != 0 {
		t.Fatalf("%v; %d pages and %d slots are left", ok, pages, slots)
	}
	for _, f := range forks[1:] {
		if !slices.Equal(f.Pages[:2], forks[0].Pages[:2]) || slices.Contains(f.Pages[2:], forks[0].Pages[2]) || f.Pages[2] == forks[0].Pages[3] {
			t.Errorf("pages %v beside %v", f.Pages, forks[0].Pages)
		}
	}
	if !forks[1].Grow(6*ops.PageTokens) || forks[2].Grow(4*ops.PageTokens+1) || !forks[2].Grow(1) {
		t.Error("two pages were free to grow into, not three")
	}
	for i, want := range []int{2, 6, 10} {
		forks[i].Release()
		if pages, slots, _ := c.Free(); pages != want || slots != i+1 {
			t.Errorf("after release %d: %d pages and %d slots are free", i, pages, slots)
		}
	}
}

// Who asks again and who waits stand in one line.
func TestTurnsAndWaitersShareTheLine(t *testing.T) {
	c := newCache(t, 4, 4)
	first, err := c.Acquire(context.Background(), 3*ops.PageTokens)
	if err != nil {
		t.Fatal(err)
	}
	turn := c.NewTurn()
	long := Need{Tokens: 2 * ops.PageTokens, Count: 1}
	if _, ok := turn.TryAcquire(long); ok {
		t.Fatal("two pages of one")
	}
	if _, ok := turn.TryAcquire(Need{Tokens: 1, Count: 1, Spare: 1}); ok {
		t.Error("admitted without the spare page")
	}
	got := make(chan *Sequence)
	go func() {
		s, err := c.Acquire(context.Background(), 1) // would fit, but comes later
		if err != nil {
			t.Error(err)
		}
		got <- s
	}()
	for _, _, waiting := c.Free(); waiting < 2; _, _, waiting = c.Free() {
		time.Sleep(time.Millisecond)
	}
	first.Release()
	<-turn.Ready
	select {
	case <-got:
		t.Fatal("a later waiter was served before the turn")
	default:
	}
	mine, ok := turn.TryAcquire(long)
	if !ok {
		t.Fatal("the turn's time came and it was refused")
	}
	second := <-got
	blocked, ok := turn.TryAcquire(Need{Tokens: 2 * ops.PageTokens, Count: 1})
	if ok {
		t.Fatalf("%v of one page", blocked)
	}
	go func() {
		s, err := c.Acquire(context.Background(), 1)
		if err != nil {
			t.Error(err)
		}
		got <- s
	}()
	for _, _, waiting := c.Free(); waiting < 2; _, _, waiting = c.Free() {
		time.Sleep(time.Millisecond)
	}
	turn.Leave()
	for _, s := range []*Sequence{mine[0], second, <-got} {
		s.Release()
	}
	if pages, slots, waiting := c.Free(); pages != 4 || slots != 4 || waiting != 0 {
		t.Errorf("in the end %d pages, %d slots, %d waiting", pages, slots, waiting)
	}
}

// Narrow keys and values take half the memory; states stay fp32.
func TestKVTypes(t *testing.T) {
	for _, kv := range []ops.Type{ops.F32, ops.F16, ops.BF16} {
		s := shape
		s.KV = kv
		if got, want := s.KVBytesPerToken(), 2*2*8*kv.Size(); got != want {
			t.Errorf("%v: %d bytes a token, want %d", kv, got, want)
		}
		memory := &books{}
		c, err := New(memory, s, 4, 2)
		if err != nil {
			t.Fatal(err)
		}
		if memory.used > s.Bytes(4, 2) {
			t.Errorf("%v: %d bytes taken, Bytes says %d", kv, memory.used, s.Bytes(4, 2))
		}
		for _, b := range c.Page(3) {
			if b.Type != kv || b.Len != 2*ops.PageTokens*8 {
				t.Errorf("%v: a page is %d elements of %v", kv, b.Len, b.Type)
			}
		}
		for _, b := range c.Slot(1) {
			if b.Type != ops.F32 {
				t.Errorf("%v: a state of %v", kv, b.Type)
			}
		}
	}
}
