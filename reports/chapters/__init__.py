"""What the report of every timed run tells."""
