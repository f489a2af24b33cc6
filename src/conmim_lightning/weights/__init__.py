"""Reading and writing foreign weight formats."""
