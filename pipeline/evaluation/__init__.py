"""Estimates of a pushed model that take longer than a run should: likelihood and Frechet distance."""
