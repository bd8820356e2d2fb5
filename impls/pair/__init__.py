"""Two models of the user's own, one a framework, in one file of functions."""
