"""Pretext losses, which do not depend on models or masking rules."""
