"""The two complete implementations, and what they share."""

VERSION = "0.1.0"
