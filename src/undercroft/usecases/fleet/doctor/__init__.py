"""Whether this host can enforce."""
