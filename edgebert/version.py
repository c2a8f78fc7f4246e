"""The version, where reading it costs nothing: asking the installation for it takes longer than opening a model."""

VERSION = "0.1.0"
