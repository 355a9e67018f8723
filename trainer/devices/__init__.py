"""Where a step runs: threads, cores, replicas and their shares of a batch."""
