package kernels

// SampleArgs is the argument of the kernels of a draw: rh_sample_scan,
// rh_sample_select, rh_sample_race, rh_sample_finish, in this order. Between them
// they keep what one found for the next.
type SampleArgs struct {
	Logits   uint64 // float32[Rows][Vocabulary]
	Block    uint64 // SampleRow[Rows]; counts, biases and masks lie behind
	Edited   uint64 // float32[copies][Tokens]: rows after penalties, bias and mask
	Partials uint64 // SamplePartial[Rows][Blocks]
	Peaks    uint64 // uint32[Rows][2][Groups]: of the row as it is, and edited
	Races    uint64 // SampleRace[Rows]
	Runners  uint64 // SampleRunner[Rows][Blocks]
	Results  uint64 // Rows results of SampleResultBytes each
	Drawn    uint64 // int32[Rows]: -1 for none

	Rows, Vocabulary, Tokens uint32
	Blocks                   uint32 // spans of SampleSpan logits a row
	Groups                   uint32 // groups of SampleGroup tokens a row
	Pad                      uint32
}

// SampleRow is ops.Sampling for the device.
type SampleRow struct {
	Seed                             uint64
	Choice, Position, Attempt        uint32
	Repetition, Presence, Frequency  float32
	Temperature, Scale               float32 // Scale is of the row's sum of exponentials: 1/temperature, or 1 for a window
	TopP, MinP                       float32
	TopK, Window, Watch              int32
	Edited                           int32  // which copy the edited row goes to; -1 without edits
	Seen, SeenCount                  uint32 // SampleSeen, bytes from the start of Block, and how many
	Bias, BiasCount                  uint32 // SampleBias likewise
	Mask, MaskWords                  uint32 // uint32 likewise
	Masked, Sum, TopPOn, Wide, Draws uint32 // 1: there is a mask; the row's sum is needed; top-p cuts; the race may need the row; a token is drawn
	Pad                              uint32
}

// SampleSeen and SampleBias are entries of a row's lists, ids ascending.
type (
	SampleSeen struct {
		ID     int32
		Output uint32
	}
	SampleBias struct {
		ID    int32
		Value float32
	}
)

// SamplePartial is what one block saw of a row: the largest logit and the sum of
// exp(v - Max), and the same of the tokens after edits, scaled.
type SamplePartial struct {
	Sum, RowSum float64
	Max, RowMax float32
}

// SampleRunner is the best of a race; SampleRace is one that the whole row runs
// from Floor on, and who leads it so far.
type (
	SampleRunner struct {
		Time, Value, Sum float64
		ID, Pad          int32
	}
	SampleRace struct {
		Floor            uint64 // least order of those that enter
		Time, Value, Sum float64
		First            float32 // largest logit
		FirstID, ID      int32
		Active           uint32 // 0: it was decided without
	}
)

// SampleResult heads a row's result. Behind it lie SamplePick[SampleTop] of the row
// as it is, as many of the window, and float32[SampleTop]: the window's logits as
// they were.
type SampleResult struct {
	LogSumExp, Watched          float32
	Candidates                  int32 // 0 without a distribution: LogSumExp is NaN
	ID                          int32 // -1 for none
	Logit, Chosen, WindowSumExp float32
	Window                      int32
}

// SamplePick is a token with its logit.
type SamplePick struct {
	ID    int32
	Logit float32
}

// Geometry of a draw.
const (
	SampleTop         = 256 // tokens that are always sorted
	SampleSpan        = 2048
	SampleGroup       = 64
	SampleResultBytes = 32 + SampleTop*(8+8+4)
)
