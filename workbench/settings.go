package workbench

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/roundhouse-ai/roundhouse/workbench/config"
	"github.com/roundhouse-ai/roundhouse/workbench/term"
)

// ConfigShow prints every setting with where it came from. Keys are not shown.
func (a *App) ConfigShow(asJSON bool) error {
	values := a.Config.Values()
	if asJSON {
		return a.printJSON(struct {
			File     string         `json:"file"`
			Settings []config.Value `json:"settings"`
		}{a.Config.File, values})
	}
	var rows [][]string
	for _, v := range values {
		rows = append(rows, []string{v.Setting, v.Text(), v.Origin.Where})
	}
	return term.Table(a.Out, []term.Column{{Name: "setting"}, {Name: "value"}, {Name: "from"}}, rows)
}

// ConfigInit writes a file with every setting at its default; path "" is the
// user's own file. An existing file is left alone.
func (a *App) ConfigInit(path string) error {
	if path == "" {
		if path = config.UserFile(os.Environ()); path == "" {
			return fmt.Errorf("there is no home folder for a configuration: name a file")
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("config init: %w", err)
		}
	}
	// 0600: an API key may be written into it.
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("config init: %w", err)
	}
	if _, err := file.WriteString(config.Template()); err != nil {
		return fmt.Errorf("config init: %w", err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("config init: %w", err)
	}
	_, err = fmt.Fprintln(a.Out, path)
	return err
}

// ConfigCheck loads a configuration and says whether it is valid.
func ConfigCheck(a *App, src config.Sources, asJSON bool) error {
	effective, err := config.Load(src)
	file := src.File
	if err == nil {
		file = effective.File
	}
	if asJSON {
		result := struct {
			File    string `json:"file"`
			Valid   bool   `json:"valid"`
			Problem string `json:"problem,omitempty"`
		}{File: file, Valid: err == nil}
		if err != nil {
			result.Problem = err.Error()
		}
		if err := a.printJSON(result); err != nil {
			return err
		}
		if !result.Valid {
			return ErrFindings
		}
		return nil
	}
	if err != nil {
		return err
	}
	if file == "" {
		file = "no file; environment and flags"
	}
	_, err = fmt.Fprintf(a.Out, "valid: %s\n", file)
	return err
}

// ConfigPath prints the file that is in force, and otherwise where one would
// be looked for.
func ConfigPath(a *App, src config.Sources, asJSON bool) error {
	file, _, err := config.Find(src)
	if err != nil {
		return err
	}
	if asJSON {
		return a.printJSON(struct {
			File   string   `json:"file"` // "" for none
			Places []string `json:"places"`
		}{file, config.Places(src)})
	}
	if file != "" {
		_, err = fmt.Fprintln(a.Out, file)
		return err
	}
	fmt.Fprintln(a.Err, "there is no configuration file; these are looked for, the first one found is read:")
	for _, place := range config.Places(src) {
		fmt.Fprintln(a.Err, "  "+place)
	}
	return nil
}
