"""The report's chapter on where a gap comes from."""
