"""From a recorded run to words; pure."""
