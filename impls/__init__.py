"""The two complete implementations, and what they share."""
