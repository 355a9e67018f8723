"""The DAG and how it is run: on this machine, or one node at a time on a cluster."""
