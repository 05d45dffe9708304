package hook

// Model is what hooks may know of the model.
type Model struct {
	Name   string
	Shape  Shape
	Tokens int // ids that may be drawn: 0 to Tokens-1
	EOS    []int32
}

// Tokenizer is the model's, as hooks see it.
type Tokenizer interface {
	Encode(text string) ([]int32, error)
	Decode(ids []int32) string
}

// Request is what hooks may know of the request that they serve.
type Request struct {
	ID        string
	MaxTokens int
	Seed      uint64
	Choice    int
	Choices   int
	// Body is the request as the client sent it: plain data.
	Body any
}
