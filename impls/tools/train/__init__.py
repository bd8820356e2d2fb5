"""`python -m impls.train`."""
