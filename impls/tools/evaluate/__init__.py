"""`python -m impls.evaluate`."""
