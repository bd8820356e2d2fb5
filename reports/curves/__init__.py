"""`python -m reports align`: loss curves of any program's logs, and whether two recipes train alike."""
