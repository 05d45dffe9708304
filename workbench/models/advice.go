package models

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// published are the sizes of repositories whose file lists are known
// (workbench/docs/autoround-format.md, section 6): what to expect before anything of
// them is there to ask.
var published = map[string]int64{
	"Intel/Qwen3-Next-80B-A3B-Instruct-int4-mixed-AutoRound": 44_166_760_774,
}

// notFound says where was looked and how to get the model.
func notFound(name string, dirs []string, env func(string) string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "model %q is not on this machine. Looked in:", name)
	places := dirs
	if strings.Contains(name, "/") {
		places = append(append([]string{}, dirs...), hubCaches(env)...)
	}
	if len(places) == 0 {
		b.WriteString(" nothing, as models.dirs is empty")
	}
	for _, place := range places {
		b.WriteString("\n  " + place)
	}
	advice := "Give org/name to learn how to download it, or a folder's path."
	if strings.Contains(name, "/") {
		p := place{repo: name}
		if len(dirs) > 0 {
			p.dir = filepath.Join(dirs[0], filepath.FromSlash(name))
		}
		advice = p.advice(published[name], 0, env)
	}
	return fmt.Errorf("%s\n%s (%w)", b.String(), advice, fs.ErrNotExist)
}

// advice prints the download command for a place, the size where it is known,
// and the free disk. have counts what is already there.
func (p place) advice(need, have int64, env func(string) string) string {
	if p.repo == "" {
		return "Its org/name is not known: download it again from where it came from."
	}
	if known := published[p.repo]; known > need {
		need = known
	}
	target, command := p.dir, "hf download "+p.repo
	caches := hubCaches(env)
	switch {
	case p.dir != "":
		command += " --local-dir " + quote(p.dir)
	case p.hub != "":
		target = p.hub
		if len(caches) > 0 && p.hub != caches[0] {
			command += " --cache-dir " + quote(p.hub)
		}
	case len(caches) > 0:
		target = caches[0]
	}
	size := "Its size is not known before the download."
	if need > 0 {
		size = fmt.Sprintf("It takes %s", bytesText(need))
		if left := need - have; have > 0 && left > 0 {
			size += fmt.Sprintf(", about %s of it still to come", bytesText(left))
		}
		size += "."
	}
	disk := ""
	if free, where, ok := freeDisk(target); ok {
		disk = fmt.Sprintf(" %s has %s free", where, bytesText(free))
		if free < need-have {
			disk += ": too little"
		}
		disk += "."
	}
	return fmt.Sprintf("Download it with\n  %s\n%s%s", command, size, disk)
}

// freeDisk asks the nearest folder above path that exists.
func freeDisk(path string) (free int64, where string, ok bool) {
	where, err := filepath.Abs(path)
	if err != nil || path == "" {
		return 0, "", false
	}
	for !isFolder(where) {
		parent := filepath.Dir(where)
		if parent == where {
			return 0, "", false
		}
		where = parent
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(where, &stat); err != nil {
		return 0, "", false
	}
	return int64(min(stat.Bavail, 1<<40)) * int64(stat.Bsize), where, true
}

// quote makes one shell word of a path.
func quote(path string) string {
	safe := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+@:,", r)
	}
	if strings.IndexFunc(path, func(r rune) bool { return !safe(r) }) < 0 {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

// bytesText writes a size in decimal units, as disks and downloads are sold.
func bytesText(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%d B", n)
}
