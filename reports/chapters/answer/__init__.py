"""What the first screen says: the verdicts, every ratio on one scale, the figures that people quote."""
