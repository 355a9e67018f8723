"""Retraining on a schedule, and how a home is doing."""
