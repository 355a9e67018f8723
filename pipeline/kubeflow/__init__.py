"""Kubeflow Pipelines v2: compiling the pipeline for it, and putting it on a server."""
