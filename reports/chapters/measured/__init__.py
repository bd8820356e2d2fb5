"""What was measured: ratios, steps, losses, starts, and the machine's load meanwhile."""
