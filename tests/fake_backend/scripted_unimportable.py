"""A backend that cannot be imported."""

raise ImportError("libnowhere.so.1: cannot open shared object file")
