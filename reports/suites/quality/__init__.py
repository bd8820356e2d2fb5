"""The report's chapter on image quality."""
