"""What libraries say of themselves on the terminal: a setting made before TensorFlow is imported."""

import os
import warnings


def libraries() -> None:
    """Silence what libraries say while they are imported; every command calls this first.

    It is about versions of Python and kinds of processors, on which nobody who reads the terminal can act.
    """
    warnings.simplefilter("ignore", FutureWarning)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
