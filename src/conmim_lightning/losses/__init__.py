"""Training objectives; they know neither models nor masking rules."""
