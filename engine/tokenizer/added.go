package tokenizer

// addedTokens finds added tokens in text.
type addedTokens struct {
	ids   map[string]int32
	first [256]bool // bytes that an added token begins with
	root  *trieNode
}

// trieNode is a byte of one or more added tokens.
type trieNode struct {
	next    map[byte]*trieNode
	id      int32 // the token that ends here
	ends    bool
	special bool
}

func newAddedTokens() *addedTokens {
	return &addedTokens{ids: map[string]int32{}, root: &trieNode{}}
}

// add enters a token. It returns false if the text is there already.
func (a *addedTokens) add(text string, id int32, special bool) bool {
	if _, twice := a.ids[text]; twice {
		return false
	}
	a.ids[text] = id
	a.first[text[0]] = true
	node := a.root
	for i := range len(text) {
		child := node.next[text[i]]
		if child == nil {
			if node.next == nil {
				node.next = map[byte]*trieNode{}
			}
			child = &trieNode{}
			node.next[text[i]] = child
		}
		node = child
	}
	node.id, node.ends, node.special = id, true, special
	return true
}

// match is an added token in a text.
type match struct {
	Span
	id      int32
	special bool
}

// next finds the leftmost token that begins at from or later, of those that
// begin there the longest. Tokens that overlap one of the spans in plain
// (sorted and disjoint) do not count.
func (a *addedTokens) next(text string, from int, plain []Span) (match, bool) {
	for i := from; i < len(text); i++ {
		if !a.first[text[i]] {
			continue
		}
		for len(plain) > 0 && (plain[0].End <= i || plain[0].Start >= plain[0].End) {
			plain = plain[1:]
		}
		limit := len(text)
		if len(plain) > 0 {
			limit = min(limit, plain[0].Start)
		}
		if m, ok := a.longest(text, i, limit); ok {
			return m, true
		}
	}
	return match{}, false
}

// longest finds the longest token that begins at start and ends at limit or before.
func (a *addedTokens) longest(text string, start, limit int) (m match, ok bool) {
	node := a.root
	for i := start; i < limit; i++ {
		node = node.next[text[i]]
		if node == nil {
			break
		}
		if node.ends {
			m, ok = match{Span{start, i + 1}, node.id, node.special}, true
		}
	}
	return m, ok
}
