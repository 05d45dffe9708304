package tokenizer

import "unicode/utf8"

// alphabetEnd is the first code point past the byte alphabet.
const alphabetEnd = 0x144

// byteOf gives the byte that a character of the byte alphabet stands for, -1
// for characters outside it. GPT-2's alphabet writes each byte as a printable
// character: those of ASCII and Latin-1 that are printable stand for
// themselves, the other 68 bytes are U+0100 onward in order.
var byteOf = func() (table [alphabetEnd]int16) {
	for i := range table {
		table[i] = -1
	}
	moved := rune(0x100)
	for b := range 256 {
		if '!' <= b && b <= '~' || 0xA1 <= b && b <= 0xAC || 0xAE <= b && b <= 0xFF {
			table[b] = int16(b)
		} else {
			table[moved] = int16(b)
			moved++
		}
	}
	return table
}()

// appendBytes appends the bytes that text in the byte alphabet stands for. ok
// is false, and dst unchanged, when a character is outside the alphabet.
func appendBytes(dst, text []byte) (_ []byte, ok bool) {
	start := len(dst)
	for i := 0; i < len(text); {
		r, n := rune(text[i]), 1
		if r >= utf8.RuneSelf {
			r, n = utf8.DecodeRune(text[i:])
		}
		if r >= alphabetEnd || byteOf[r] < 0 {
			return dst[:start], false
		}
		dst = append(dst, byte(byteOf[r]))
		i += n
	}
	return dst, true
}
