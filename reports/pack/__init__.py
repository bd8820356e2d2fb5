"""What people quote of a run: a section for a README with its pictures, a badge, a table for a paper."""
