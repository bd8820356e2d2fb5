"""Where the gap between two arms comes from."""
