"""attnzoo."""
