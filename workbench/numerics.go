package workbench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/parity"
	"github.com/roundhouse-ai/roundhouse/engine/tokenizer"
	"github.com/roundhouse-ai/roundhouse/workbench/term"
)

// NumericsOptions of the comparison of rounded with exact activations.
type NumericsOptions struct {
	Text   string // file to read
	Tokens int    // of it, at most
	With   string // numerics to hold beside exact
	Window int    // tokens that are read in one go; the next window begins anew
	JSON   bool
}

// maxNumericsText bounds the file; a token is a byte at least.
const maxNumericsText = 16 << 20

// Numerics measures what rounded activations change about a model's predictions on a
// text. ErrFindings says that it is more than the handbook allows.
func (a *App) Numerics(ctx context.Context, o NumericsOptions) (err error) {
	ctx, stop := interruptible(ctx)
	defer stop()
	folder, err := a.checkedFolder()
	if err != nil {
		return err
	}
	models := map[string]*engine.Model{}
	for _, mode := range []string{"exact", o.With} {
		a.Config.Engine.Numerics = mode
		model, err := a.open(ctx, folder, nil)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, model.Close()) }()
		models[mode] = model
	}
	ids, err := textIDs(models["exact"], o)
	if err != nil {
		return err
	}
	d, err := parity.Diverge(ctx, models["exact"], models[o.With], ids, o.Window)
	if err != nil {
		return err
	}
	if o.JSON {
		err = a.printJSON(d)
	} else {
		err = a.printDivergence(d, o.With, models[o.With].Info().Backend.Kernels)
	}
	if err == nil && !d.Within() {
		err = ErrFindings
	}
	return err
}

// textIDs reads and encodes the beginning of a text.
func textIDs(model *engine.Model, o NumericsOptions) ([]int32, error) {
	if model.Tokenizer() == nil {
		return nil, errors.New("the model folder has no tokenizer.json, so that it cannot read a text")
	}
	if o.Window > model.Info().Context {
		return nil, fmt.Errorf("windows of %d tokens: the context holds %d", o.Window, model.Info().Context)
	}
	file, err := os.Open(o.Text)
	if err != nil {
		return nil, err
	}
	defer file.Close() // read only
	text, err := io.ReadAll(io.LimitReader(file, maxNumericsText))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", o.Text, err)
	}
	ids := model.Tokenizer().Encode(string(text), tokenizer.Default)
	return ids[:min(len(ids), o.Tokens)], nil
}

func (a *App) printDivergence(d parity.Divergence, with, kernels string) error {
	verdict := map[bool]string{true: "PASS", false: "FAIL"}
	rise := 100 * (d.PerplexityThen/d.Perplexity - 1)
	err := term.Table(a.Out, []term.Column{{Name: with + " beside exact"}, {Name: "value", Right: true}, {Name: "bound", Right: true}, {Name: "verdict"}}, [][]string{
		{"mean KL, nats", fmt.Sprintf("%.2e", d.MeanKL), fmt.Sprintf("%.0e", parity.MaxMeanKL), verdict[d.MeanKL <= parity.MaxMeanKL]},
		{"99 % of KL below", fmt.Sprintf("%.2e", d.P99KL), "", ""},
		{"largest KL", fmt.Sprintf("%.2e", d.MaxKL), "", ""},
		{"same most likely token, %", fmt.Sprintf("%.2f", 100*d.Top1), fmt.Sprint(100 * parity.MinTop1), verdict[d.Top1 >= parity.MinTop1]},
		{"perplexity, exact", fmt.Sprintf("%.4f", d.Perplexity), "", ""},
		{"perplexity, " + with, fmt.Sprintf("%.4f (%+.3f %%)", d.PerplexityThen, rise), fmt.Sprintf("%.1f %%", 100*parity.MaxPerplexityRise), verdict[rise <= 100*parity.MaxPerplexityRise && rise >= -100*parity.MaxPerplexityRise]},
	})
	fmt.Fprintf(a.Out, "%d predictions, kernels %s\n", d.Tokens, kernels)
	return err
}
