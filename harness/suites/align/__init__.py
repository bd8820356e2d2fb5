"""Where do two arms part? Every layer looked into, and the first that differs named."""
