"""One run from the parts that it was measured in."""
