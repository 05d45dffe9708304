package tokenizer

// mergeTable has, for each pair of tokens that may be joined, the merge.
type mergeTable map[uint64]merge

// merge is a rank (upper half) and the id of the joined token (lower half):
// of two merges the smaller number is done first.
type merge uint64

// noMerge stands for a pair that cannot be joined.
const noMerge = ^merge(0)

func (m merge) rank() uint32 { return uint32(m >> 32) }
func (m merge) id() int32    { return int32(uint32(m)) }

func pairKey(left, right int32) uint64 { return uint64(uint32(left))<<32 | uint64(uint32(right)) }

// add enters a merge. It returns false if the pair is there already.
func (t mergeTable) add(left, right int32, rank uint32, id int32) bool {
	key := pairKey(left, right)
	if _, twice := t[key]; twice {
		return false
	}
	t[key] = merge(rank)<<32 | merge(uint32(id))
	return true
}

// of returns the merge of a pair, noMerge if there is none.
func (t mergeTable) of(left, right int32) merge {
	if m, ok := t[pairKey(left, right)]; ok {
		return m
	}
	return noMerge
}

// maxScan is the number of symbols up to which looking through all pairs for
// each merge beats a heap: 32 merge values are four cache lines.
const maxScan = 32

// merge joins the symbols of one word, byte tokens at first, until no pair can
// be joined: always the pair of lowest rank, of equal ones the leftmost. It
// works in place and returns the shortened ids.
func (t mergeTable) merge(ids []int32) []int32 {
	if len(ids) <= maxScan {
		return t.mergeByScan(ids)
	}
	return t.mergeByHeap(ids)
}

// mergeByScan is merge as its definition says: quadratic, and the fastest way
// for the words of natural text.
func (t mergeTable) mergeByScan(ids []int32) []int32 {
	var room [maxScan]merge
	pairs := room[:0] // pairs[i] is the merge of ids[i] and ids[i+1]
	for i := 1; i < len(ids); i++ {
		pairs = append(pairs, t.of(ids[i-1], ids[i]))
	}
	for {
		best, at := noMerge, 0
		for i, m := range pairs {
			if m < best {
				best, at = m, i
			}
		}
		if best == noMerge {
			return ids
		}
		ids[at] = best.id()
		ids = append(ids[:at+1], ids[at+2:]...)
		pairs = append(pairs[:at], pairs[at+1:]...)
		if at > 0 {
			pairs[at-1] = t.of(ids[at-1], ids[at])
		}
		if at < len(pairs) {
			pairs[at] = t.of(ids[at], ids[at+1])
		}
	}
}

// mergeByHeap is merge in n log n, for long words: symbols are a linked list,
// and a heap has the rank and place of each pair. A place whose pair has
// changed since is passed over when it comes up.
func (t mergeTable) mergeByHeap(ids []int32) []int32 {
	n := len(ids)
	pairs := make([]merge, n) // the merge of the symbol at i and the one behind it
	prev, next := make([]int32, n), make([]int32, n)
	var queue placeHeap
	for i := range ids {
		prev[i], next[i] = int32(i)-1, int32(i)+1
		pairs[i] = noMerge
		if i+1 < n {
			pairs[i] = t.of(ids[i], ids[i+1])
		}
		if pairs[i] != noMerge {
			queue = append(queue, newPlace(pairs[i].rank(), i))
		}
	}
	queue.init()
	update := func(left, right int32) {
		pairs[left] = t.of(ids[left], ids[right])
		if pairs[left] != noMerge {
			queue.push(newPlace(pairs[left].rank(), int(left)))
		}
	}
	for len(queue) > 0 {
		p := queue.pop()
		at := int32(p.index())
		if pairs[at].rank() != p.rank() {
			continue
		}
		gone := next[at]
		ids[at] = pairs[at].id()
		pairs[at], pairs[gone] = noMerge, noMerge
		next[at] = next[gone]
		if after := next[at]; int(after) < n {
			prev[after] = at
			update(at, after)
		}
		if before := prev[at]; before >= 0 {
			update(before, at)
		}
	}
	out := ids[:0] // the first symbol is never the one that goes
	for i := int32(0); int(i) < n; i = next[i] {
		out = append(out, ids[i])
	}
	return out
}

// place is a pair in the heap: its rank (upper half) and index (lower half).
type place uint64

func newPlace(rank uint32, index int) place { return place(rank)<<32 | place(uint32(index)) }

func (p place) rank() uint32 { return uint32(p >> 32) }
func (p place) index() int   { return int(uint32(p)) }

// placeHeap is a binary heap, smallest first. container/heap calls through an
// interface for each comparison, which takes three times as long.
type placeHeap []place

func (h placeHeap) init() {
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
}

func (h *placeHeap) push(p place) {
	*h = append(*h, p)
	s := *h
	i := len(s) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if s[parent] <= p {
			break
		}
		s[i] = s[parent]
		i = parent
	}
	s[i] = p
}

func (h *placeHeap) pop() place {
	s := *h
	top, last := s[0], len(s)-1
	s[0] = s[last]
	*h = s[:last]
	h.down(0)
	return top
}

func (h placeHeap) down(i int) {
	if i >= len(h) {
		return
	}
	p := h[i]
	for {
		child := 2*i + 1
		if child >= len(h) {
			break
		}
		if child+1 < len(h) && h[child+1] < h[child] {
			child++
		}
		if p <= h[child] {
			break
		}
		h[i] = h[child]
		i = child
	}
	h[i] = p
}
