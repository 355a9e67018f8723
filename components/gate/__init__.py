"""Decides over a year of nights whether a candidate may replace production, and raises alarms."""
