"""The entry point of every container on a cluster: `python -m pipeline.node`; see pipeline.execution.node."""

from pipeline.execution.node import main

if __name__ == "__main__":
    main()
