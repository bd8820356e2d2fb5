"""A recorded run sorted for reading."""
