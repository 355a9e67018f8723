"""What lies in a home, and how it is kept whole."""
