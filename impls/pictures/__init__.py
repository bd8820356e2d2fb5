"""Pictures for people: grids, animations, curves."""
