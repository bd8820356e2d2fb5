"""Turns a recorded run into pages; never measures, never judges."""
