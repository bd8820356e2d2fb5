"""The report's chapter on the first layer that differs."""
