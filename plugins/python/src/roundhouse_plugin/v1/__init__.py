"""The messages of protocol v1, generated from plugin.proto."""
