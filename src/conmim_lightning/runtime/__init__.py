"""What the entry points share: errors, provenance, restored runs, results, launching."""
