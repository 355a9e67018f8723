"""What a long estimate has so far, in a file, so that the same command goes on after an interruption."""

import dataclasses
import hashlib
import io
import json
import os
import pathlib
import time
import zipfile
from collections.abc import Sequence

import numpy as np

from components.serving import manifests
from pipeline.evaluation.likelihood import Estimates

SECONDS = 10.0
"""Between two writes."""


class Kept:
    """A file of estimates, named by everything that they depend on.

    folder: of such files. model: folder of the SavedModel. examples: the images. numbers: samples, seed and
    rows, which decide the noise of each image.
    """

    def __init__(
        self, folder: pathlib.Path, model: str, examples: Sequence[bytes], numbers: Sequence[int]
    ) -> None:
        digest = hashlib.sha256(json.dumps([manifests.of(model, manifests.sizes(model)), *numbers]).encode())
        for example in examples:
            digest.update(hashlib.sha256(example).digest())
        self._path = folder / f"{digest.hexdigest()[:32]}.npz"
        self._images = len(examples)
        self._next = time.monotonic() + SECONDS

    def load(self) -> Estimates | None:
        """Return the estimates of the file; None where there are none that can be read."""
        try:
            content = io.BytesIO(self._path.read_bytes())
            with np.load(content, allow_pickle=False) as arrays:
                found = Estimates(arrays["bounds"], arrays["variances"], arrays["effective"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        sizes = {values.shape for values in dataclasses.astuple(found)}
        return found if len(sizes) == 1 and len(found.bounds) <= self._images else None

    def save(self, found: Estimates, force: bool = False) -> None:
        """Write the estimates, unless the last write was less than SECONDS ago."""
        if not force and time.monotonic() < self._next:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_suffix(f".{os.getpid()}.npz")
        np.savez(new, **dataclasses.asdict(found))
        new.replace(self._path)
        self._next = time.monotonic() + SECONDS

    def clear(self) -> None:
        """Remove the file: the estimate is complete."""
        self._path.unlink(missing_ok=True)
