"""The report's chapter on what more ranks bring."""
