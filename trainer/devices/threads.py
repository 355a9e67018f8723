"""The threads that TensorFlow gives an operation: a process's setting, read before its first operation."""

import os

VARIABLE = "TF_NUM_INTRAOP_THREADS"


def one_an_operation() -> None:
    """Give each operation one thread, unless the user set another number (see trainer.devices.cores)."""
    os.environ.setdefault(VARIABLE, "1")
