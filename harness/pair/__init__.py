"""A file for two models of the user's own, to start from."""
