"""Studies: runs that depend on one another, and tables of their results."""
