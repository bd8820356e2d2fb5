"""`python -m impls.sample`."""
