package wire

import "strings"

// How host and plugin find each other; the rest is go-plugin's.
const (
	// CookieKey and CookieValue are in a plugin's environment, so that it knows a host from
	// somebody who runs it by hand.
	CookieKey   = "ROUNDHOUSE_PLUGIN"
	CookieValue = "7f1d5c1e-roundhouse-plugin"
	// TokenKey has the secret of this launch: every call carries it as TokenHeader.
	TokenKey    = "ROUNDHOUSE_PLUGIN_TOKEN"
	TokenHeader = "roundhouse-token"
	// ParentKey has the host's process id: a plugin ends when it does.
	ParentKey = "ROUNDHOUSE_PLUGIN_PARENT"
	// Protocol is the version of the handshake.
	Protocol = 1
	// Name is what the plugin is called within go-plugin's set.
	Name = "plugin"
)

// PlainName says whether a text can name a plugin.
func PlainName(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-'
	})
}
