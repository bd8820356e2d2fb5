"""The computer: facts about it, and what disturbs a measurement."""
