// Package pluginv1 is the messages between the host and plugins, generated from
// plugin.proto, which says what they mean.
package pluginv1

//go:generate go -C ../../.. run github.com/bufbuild/buf/cmd/buf@v1.75.0 generate
