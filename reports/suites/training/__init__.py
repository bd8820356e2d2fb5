"""The report's chapter on training."""
