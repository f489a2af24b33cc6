"""Masking rules: which patches to hide from the student, without seeing the image."""
