package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// validate checks every value; each error begins with the value's origin.
func (e *Effective) validate() error {
	var errs []error
	for _, s := range settings {
		if err := checks[s.Path](&e.Config); err != nil {
			o := e.Origin(s.Path)
			if o.Source == "flag" {
				errs = append(errs, fmt.Errorf("%s: %w", o, err))
			} else {
				errs = append(errs, fmt.Errorf("%s: %s: %w", o, s.Path, err))
			}
		}
	}
	return errors.Join(errs...)
}

// maxUsed leaves room for scripts that a request names: it may have eight in all.
const maxUsed = 6

// maxPlugins bounds the plugins that run.
const maxPlugins = 32

// checks has one function for every setting.
var checks = map[string]func(*Config) error{
	"listen":     func(c *Config) error { return listenAddress(c.Listen) },
	"api_key":    func(c *Config) error { return printable(c.APIKey, 1024) },
	"model":      func(c *Config) error { return printable(c.Model, 4096) },
	"model_name": func(c *Config) error { return printable(c.ModelName, 256) },
	"models.dirs": func(c *Config) error {
		return each(c.Models.Dirs, func(dir string) error { return notEmpty(dir, "a folder") })
	},
	"engine.threads":      func(c *Config) error { return within(c.Engine.Threads, 0, 4096) },
	"engine.context":      func(c *Config) error { return within(c.Engine.Context, 0, 1<<24) },
	"engine.streams":      func(c *Config) error { return within(c.Engine.Streams, 0, 4096) },
	"engine.queue":        func(c *Config) error { return within(c.Engine.Queue, 0, 1<<20) },
	"engine.cache_tokens": func(c *Config) error { return within(c.Engine.CacheTokens, 0, 1<<30) },
	"engine.overcommit":   func(c *Config) error { return oneOf(c.Engine.Overcommit, "off", "swap", "rebuild") },
	"engine.kernels":      func(c *Config) error { return oneOf(c.Engine.Kernels, "auto", "portable", "avx2", "avx512", "generic") },
	"engine.kv_type":      func(c *Config) error { return oneOf(c.Engine.KVType, "auto", "f32", "f16", "bf16") },
	"engine.device": func(c *Config) error {
		if !device.MatchString(c.Engine.Device) {
			return fmt.Errorf("%q: there are auto, cpu, cuda and cuda:N", c.Engine.Device)
		}
		return nil
	},
	"engine.numerics": func(c *Config) error { return oneOf(c.Engine.Numerics, "auto", "exact", "fast", "int8") },
	"engine.prefill_chunk": func(c *Config) error {
		if c.Engine.PrefillChunk%64 != 0 {
			return fmt.Errorf("%d is not a multiple of 64", c.Engine.PrefillChunk)
		}
		return within(c.Engine.PrefillChunk, 0, 1<<16)
	},
	"engine.ignore_memory":   func(*Config) error { return nil }, // both values are possible
	"server.max_body":        func(c *Config) error { return within(int(c.Server.MaxBody), 1<<10, 1<<30) },
	"server.allowed_hosts":   func(c *Config) error { return each(c.Server.AllowedHosts, hostName) },
	"server.allowed_origins": func(c *Config) error { return each(c.Server.AllowedOrigins, origin) },
	"server.shutdown_grace":  func(c *Config) error { return between(c.Server.ShutdownGrace, 0, time.Hour) },
	"chat.special_tokens":    func(c *Config) error { return oneOf(c.Chat.SpecialTokens, "text", "allow") },
	"scripts.dir":            func(c *Config) error { return printable(c.Scripts.Dir, 4096) },
	"scripts.vectors":        func(c *Config) error { return printable(c.Scripts.Vectors, 4096) },
	"scripts.use": func(c *Config) error {
		if len(c.Scripts.Use) > maxUsed {
			return fmt.Errorf("%d scripts, at most %d", len(c.Scripts.Use), maxUsed)
		}
		return each(c.Scripts.Use, func(name string) error { return notEmpty(name, "a script") })
	},
	"scripts.budget":        func(c *Config) error { return between(c.Scripts.Budget, 0, time.Second) },
	"scripts.on_error":      func(c *Config) error { return oneOf(c.Scripts.OnError, "disable", "fail") },
	"scripts.record":        func(c *Config) error { return printable(c.Scripts.Record, 4096) },
	"scripts.memory":        func(c *Config) error { return within(int(c.Scripts.Memory), 1<<20, 4<<30) },
	"scripts.inline":        func(*Config) error { return nil }, // both values are possible
	"scripts.inline_memory": func(c *Config) error { return within(int(c.Scripts.InlineMemory), 64<<20, 16<<30) },
	"plugins.dir":           func(c *Config) error { return printable(c.Plugins.Dir, 4096) },
	"plugins.allow":         func(c *Config) error { return plugins(c.Plugins.Allow) },
	"plugins.use":           func(c *Config) error { return plugins(c.Plugins.Use) },
	"plugins.pins": func(c *Config) error {
		return each(c.Plugins.Pins, func(pin string) error { return notEmpty(pin, "a pin") })
	},
	"plugins.env": func(c *Config) error {
		return each(c.Plugins.Env, func(name string) error { return notEmpty(name, "a name") })
	},
	"plugins.budget": func(c *Config) error { return between(c.Plugins.Budget, time.Millisecond, 10*time.Second) },
	"log.level":      func(c *Config) error { return oneOf(c.Log.Level, "debug", "info", "warn", "error") },
	"log.format":     func(c *Config) error { return oneOf(c.Log.Format, "text", "json") },
}

// plugins says whether a list can be names of plugins.
func plugins(names []string) error {
	if len(names) > maxPlugins {
		return fmt.Errorf("%d plugins, at most %d", len(names), maxPlugins)
	}
	return each(names, func(name string) error { return notEmpty(name, "a plugin") })
}

func listenAddress(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not an address: write HOST:PORT, such as 127.0.0.1:8480 or :0", addr)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%q is not a port: 0 to 65535", port)
	}
	if strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r == '/' }) {
		return fmt.Errorf("%q is not a host", host)
	}
	return nil
}

func hostName(host string) error {
	if host == "" || strings.ContainsAny(host, "/ @?#") || strings.ContainsFunc(host, unicode.IsControl) {
		return fmt.Errorf("%q is not a host name: write it without scheme and path", host)
	}
	return nil
}

func origin(text string) error {
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.Scheme+"://"+u.Host != text {
		return fmt.Errorf("%q is not an origin: write scheme and host alone, such as https://app.example", text)
	}
	return nil
}

func within(n, low, high int) error {
	if n < low || n > high {
		return fmt.Errorf("%d is outside %d to %d", n, low, high)
	}
	return nil
}

func between(d Duration, low, high time.Duration) error {
	if d := time.Duration(d); d < low || d > high {
		return fmt.Errorf("%s is outside %s to %s", d, low, high)
	}
	return nil
}

func oneOf(value string, choices ...string) error {
	if slices.Contains(choices, value) {
		return nil
	}
	return fmt.Errorf("%q is none of %s", value, strings.Join(choices, ", "))
}

func printable(text string, most int) error {
	if len(text) > most {
		return fmt.Errorf("longer than %d bytes", most)
	}
	if strings.ContainsFunc(text, unicode.IsControl) {
		return errors.New("contains control characters")
	}
	return nil
}

func notEmpty(text, what string) error {
	if text == "" {
		return fmt.Errorf("an empty name is not %s", what)
	}
	return printable(text, 4096)
}

func each(list []string, check func(string) error) error {
	if len(list) > 1024 {
		return fmt.Errorf("%d entries, at most 1024", len(list))
	}
	for _, item := range list {
		if err := check(item); err != nil {
			return err
		}
	}
	return nil
}

// device is what engine.device may be.
var device = regexp.MustCompile(`^(auto|cpu|cuda(:[0-9]{1,3})?)$`)
