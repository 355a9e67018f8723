"""python -m pipeline: the latentline command."""

from pipeline.cli import main

main()
