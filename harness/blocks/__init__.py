"""The alternation that all timed parts share: fresh processes, warmed up, measured in turns."""
