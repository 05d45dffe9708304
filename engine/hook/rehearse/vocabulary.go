package rehearse

import (
	"fmt"
	"strings"
)

// Vocabulary is a tokenizer made of the texts of its tokens, by id.
type Vocabulary []string

// Encode implements hook.Tokenizer: from left to right, the longest token that fits.
func (v Vocabulary) Encode(text string) ([]int32, error) {
	var ids []int32
	for rest := text; rest != ""; {
		best := -1
		for id, token := range v {
			if token != "" && strings.HasPrefix(rest, token) && (best < 0 || len(token) > len(v[best])) {
				best = id
			}
		}
		if best < 0 {
			return nil, fmt.Errorf("the vocabulary of the test has no token that %.40q begins with", rest)
		}
		ids, rest = append(ids, int32(best)), rest[len(v[best]):]
	}
	return ids, nil
}

// Decode implements hook.Tokenizer.
func (v Vocabulary) Decode(ids []int32) string {
	var text strings.Builder
	for _, id := range ids {
		text.WriteString(v.text(id))
	}
	return text.String()
}

// text is that of a token; "" for those that have none.
func (v Vocabulary) text(id int32) string {
	if id < 0 || int(id) >= len(v) {
		return ""
	}
	return v[id]
}
