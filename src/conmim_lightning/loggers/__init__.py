"""Loggers that continue the records of a resumed run."""
