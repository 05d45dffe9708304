package term

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// historySize bounds the lines that are kept, historyLine each line in bytes.
const (
	historySize = 1000
	historyLine = 64 << 10
)

// History is the lines of earlier conversations, newest last. It is kept in a
// file that only its owner can read, one JSON string a line.
type History struct {
	path  string // "" keeps nothing
	lines []string
}

// HistoryFile is where the chat's history is kept:
// $XDG_STATE_HOME/roundhouse/history, by default under ~/.local/state. "" when
// there is no home.
func HistoryFile() string {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "roundhouse", "history")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".local", "state", "roundhouse", "history")
}

// LoadHistory reads a history; a missing file is an empty one. Lines that are
// damaged are left out.
func LoadHistory(path string) (*History, error) {
	h := &History{path: path}
	if path == "" {
		return h, nil
	}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err != nil {
		return h, fmt.Errorf("history: %w", err)
	}
	defer file.Close()
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, 2*historyLine)
	for scanner.Scan() {
		var line string
		if json.Unmarshal(scanner.Bytes(), &line) == nil {
			h.Add(line)
		}
	}
	if err := scanner.Err(); err != nil {
		return h, fmt.Errorf("history %s: %w", path, err)
	}
	return h, nil
}

// Add appends a line, unless it is empty, too long or the same as the last.
func (h *History) Add(line string) {
	if strings.TrimSpace(line) == "" || len(line) > historyLine {
		return
	}
	if n := len(h.lines); n > 0 && h.lines[n-1] == line {
		return
	}
	h.lines = append(h.lines, line)
	if len(h.lines) > historySize {
		h.lines = h.lines[len(h.lines)-historySize:]
	}
}

// Len returns the number of lines.
func (h *History) Len() int { return len(h.lines) }

// At returns a line; 0 is the newest.
func (h *History) At(i int) string { return h.lines[len(h.lines)-1-i] }

// Save writes the history for its owner alone, replacing the file in one step.
func (h *History) Save() error {
	if h.path == "" {
		return nil
	}
	var text strings.Builder
	for _, line := range h.lines {
		quoted, err := json.Marshal(line)
		if err != nil {
			return fmt.Errorf("history: %w", err)
		}
		text.Write(quoted)
		text.WriteByte('\n')
	}
	if err := os.MkdirAll(filepath.Dir(h.path), 0o700); err != nil {
		return fmt.Errorf("history: %w", err)
	}
	temporary, err := os.CreateTemp(filepath.Dir(h.path), ".history-*") // mode 0600
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	_, err = temporary.WriteString(text.String())
	if err = errors.Join(err, temporary.Close()); err == nil {
		err = os.Rename(temporary.Name(), h.path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("history: %w", err), os.Remove(temporary.Name()))
	}
	return nil
}
