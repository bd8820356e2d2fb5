"""The command lines of the two implementations."""
