"""Runs implementations and records facts; never imports a framework."""

PROG = "run_bench.py"
