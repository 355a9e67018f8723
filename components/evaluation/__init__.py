"""Metrics, the evaluation config, and the baseline that a candidate is compared with."""
