"""The graph of a run: where it runs, the fingerprints of its code, and its intermediate representation."""
