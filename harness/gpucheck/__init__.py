"""`make gpu-check`: everything that only a GPU can show, as a folder to look at or to send."""
