"""Starting, asking and ending processes, and leaving nothing behind."""
