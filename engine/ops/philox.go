package ops

import "math/bits"

// Philox4x32 is the counter-based generator of Salmon et al., "Parallel Random
// Numbers: As Easy as 1, 2, 3" (SC 2011), with ten rounds: the same four words
// for the same counter and key on every machine, in any order.
func Philox4x32(counter [4]uint32, key [2]uint32) [4]uint32 {
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

// Uniform returns the random number of token id at one draw, in (0, 1): its
// counter names choice, position, attempt and draw within the token (together
// one word: 24 bits of attempt, 8 of draw) and the id, its key is the seed. No
// state is carried, so batching, order and device do not matter.
func Uniform(s *Sampling, draw uint8, id int32) float32 {
	counter := [4]uint32{s.Choice, s.Position, s.Attempt<<8 | uint32(draw), uint32(id)}
	return unit(Philox4x32(counter, [2]uint32{uint32(s.Seed), uint32(s.Seed >> 32)})[0])
}

// MaxUniform is the largest number of Uniform: the float32 before 1.
const MaxUniform = 1 - 1.0/(1<<24)

// unit makes a word a number in (0, 1) by its upper 24 bits. The half added
// keeps 0 out; where it rounds up to 1 (one word in 2^24), MaxUniform stands in:
// a token whose number is 1 would win its race however unlikely it is.
func unit(word uint32) float32 {
	return min((float32(word>>8)+0.5)*(1.0/(1<<24)), MaxUniform)
}
