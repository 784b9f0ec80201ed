"""deploy/: each file checked by its own tool, and all of them against the bridge."""
