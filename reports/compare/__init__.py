"""The same arms across runs."""
