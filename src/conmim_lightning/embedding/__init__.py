"""Features of whole collections, written to a file."""
