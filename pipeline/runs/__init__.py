"""One run from settings to report, with its record."""
