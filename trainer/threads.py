"""How many threads TensorFlow gives an operation: a process's setting, read before its first operation."""

import os

VARIABLE = "TF_NUM_INTRAOP_THREADS"


def one_an_operation() -> None:
    """Unless the user has set it otherwise; trainer.cores has the reasons. Does not import TensorFlow."""
    os.environ.setdefault(VARIABLE, "1")
