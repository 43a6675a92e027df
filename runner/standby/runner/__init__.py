"""Who decides and who drives."""
