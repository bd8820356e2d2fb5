"""The report's chapter on parity."""
