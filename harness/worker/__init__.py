"""Inside the measured process."""
