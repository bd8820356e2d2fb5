"""The run folder: the only thing reports know of the harness, beside its statistics."""
