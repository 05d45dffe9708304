package hook

import "math/bits"

// Key names a random number: the same key gives the same number, alone or beside
// others, on every machine, in a script and in a plugin.
type Key struct {
	Seed     uint64
	Choice   uint32
	Position uint32
	Attempt  uint32
	Draw     uint32 // counts the numbers of one event position
}

// Random returns the key's number in [0, 1), of 53 bits. It is Philox4x32 with ten
// rounds, as the engine draws with; the bit that is flipped in the key keeps the
// two apart.
func Random(k Key) float64 {
	seed := k.Seed ^ 1<<63
	w := philox([4]uint32{k.Choice, k.Position, k.Attempt, k.Draw}, [2]uint32{uint32(seed), uint32(seed >> 32)})
	return float64(uint64(w[0])<<21^uint64(w[1])>>11) / (1 << 53)
}

// philox is Philox4x32-10 (Salmon et al. 2011).
func philox(counter [4]uint32, key [2]uint32) [4]uint32 {
	for round := 0; ; round++ {
		hi0, lo0 := bits.Mul32(0xD2511F53, counter[0])
		hi1, lo1 := bits.Mul32(0xCD9E8D57, counter[2])
		counter = [4]uint32{hi1 ^ counter[1] ^ key[0], lo1, hi0 ^ counter[3] ^ key[1], lo0}
		if round == 9 {
			return counter
		}
		key[0] += 0x9E3779B9
		key[1] += 0xBB67AE85
	}
}
