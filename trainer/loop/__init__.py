"""The training loop: steps, checkpoints, data in memory, and what is watched along the way."""
