"""Pretext losses; they know neither models nor masking rules."""
