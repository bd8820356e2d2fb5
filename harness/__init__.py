"""Runs implementations and records facts; never imports a framework."""
