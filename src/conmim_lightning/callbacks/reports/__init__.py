"""Tables and figures about a run."""
