"""The report's chapter on sampling."""
