"""Public collections that are downloaded if they are missing."""
