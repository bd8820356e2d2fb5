"""What both implementations share: numpy only, never a framework."""
