"""Functions that the entry points share: errors, provenance, restored runs, results, launching."""
