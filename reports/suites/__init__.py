"""What a report tells of one part, one folder a part, named as in harness/suites."""
