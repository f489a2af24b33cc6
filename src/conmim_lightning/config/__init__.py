"""Checks of composed configurations."""
