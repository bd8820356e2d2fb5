"""A run's tables for other programs."""
