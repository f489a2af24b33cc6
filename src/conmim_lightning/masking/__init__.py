"""Masking rules: which patches to hide from the student, independent of the image."""
