"""Put a compiled pipeline on Kubeflow Pipelines v2: a thin script around pipeline.kubeflow.deploy."""

from pipeline.kubeflow.deploy import main

if __name__ == "__main__":
    main()
