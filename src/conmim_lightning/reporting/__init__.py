"""Reports of runs as HTML files."""
