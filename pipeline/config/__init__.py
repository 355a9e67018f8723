"""What a user or a cluster configures, as typed and frozen records."""
