package tokenizer

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
)

const (
	// cacheSlots words are remembered: 64 Ki, of which English prose fills
	// about half. With words of at most cachedWord bytes that bounds the
	// cache to about 20 MB.
	cacheSlots = 1 << 16
	cachedWord = 48
)

// wordCache remembers the ids of words. Each word has one slot; a word that
// comes later takes the slot. So it needs no lock, cannot grow, and the worst
// that chosen words can do is to make it useless.
type wordCache struct {
	seed  maphash.Seed
	slots [cacheSlots]atomic.Pointer[cachedIDs]
}

// cachedIDs is never changed once it is in a slot.
type cachedIDs struct {
	word string
	ids  []int32
}

func newWordCache() *wordCache { return &wordCache{seed: maphash.MakeSeed()} }

// slot returns the slot of a word.
func (c *wordCache) slot(word string) *atomic.Pointer[cachedIDs] {
	return &c.slots[maphash.String(c.seed, word)%cacheSlots]
}

// put remembers copies of word and ids.
func (c *wordCache) put(slot *atomic.Pointer[cachedIDs], word string, ids []int32) {
	slot.Store(&cachedIDs{word: strings.Clone(word), ids: append([]int32(nil), ids...)})
}
