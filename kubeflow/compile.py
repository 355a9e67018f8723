"""Compile the pipeline for Kubeflow Pipelines v2: a thin script around pipeline.kubeflow.compile."""

from pipeline.kubeflow.compile import main

if __name__ == "__main__":
    main()
