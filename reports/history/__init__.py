"""What became of a comparison over the runs of a folder."""
