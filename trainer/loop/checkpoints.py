"""Checkpoints of a training run, in a folder that outlives the execution that writes them.

A checkpoint is one .npz file named `<step>-<SHA-256 of its bytes>.npz`. It appears under that name in one
rename, so that a process killed at any moment leaves the checkpoint before it, and a file that is not what
its name says is recognised as damaged. Works on any file system that TensorFlow does.
"""

import contextlib
import hashlib
import io
import json
import logging
import os
import posixpath
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

KEPT = 2
SECONDS, LEAST_SECONDS = 120.0, 1.0
"""Most and least time between two checkpoints."""
WORTH = 50
"""A checkpoint is written when so many times what it costs has passed: writing takes 2 % of the time at most.

No checkpoint counts on a grace period: where Kubeflow evicts a pod, 0.1 to 1 s remain after the SIGTERM.
"""
SUFFIX = ".npz"
UNFINISHED = ".tmp"
ABANDONED_SECONDS = 30 * 24 * 3600.0

log = logging.getLogger(__name__)

Arrays = Mapping[str, npt.NDArray[Any]]


class Checkpoints:
    """The checkpoints of one piece of work.

    folder: of this work alone (see `folder_of`). seconds: most time between two checkpoints.
    writes: whether this process is the one that writes; the others only read.
    """

    def __init__(self, folder: str, seconds: float = SECONDS, writes: bool = True) -> None:
        self._folder, self._seconds, self._writes = folder, seconds, writes
        self._last = time.monotonic()
        self._cost = 0.0

    def due(self) -> bool:
        """Return whether it is time for the next checkpoint, by what the last one cost.

        It is asked after each chunk of steps. A chunk that takes longer than the interval is followed by a
        checkpoint, so that a lost machine loses the work of one interval or of one chunk, whichever is
        longer.
        """
        interval = min(self._seconds, max(LEAST_SECONDS, WORTH * self._cost))
        return time.monotonic() - self._last >= interval

    def save(self, step: int, arrays: Arrays) -> None:
        """Write a checkpoint, then remove all but the newest KEPT."""
        started = time.monotonic()
        try:
            if self._writes:
                self._write(step, arrays)
        finally:
            self._last = time.monotonic()
            self._cost = self._last - started

    def _write(self, step: int, arrays: Arrays) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        content = buffer.getvalue()
        name = posixpath.join(self._folder, f"{step:010d}-{hashlib.sha256(content).hexdigest()}{SUFFIX}")
        tf.io.gfile.makedirs(self._folder)
        unfinished = f"{name}.{os.getpid()}{UNFINISHED}"
        with tf.io.gfile.GFile(unfinished, "wb") as file:
            file.write(content)
        tf.io.gfile.rename(unfinished, name, overwrite=True)
        for old in self._names()[KEPT:]:
            with contextlib.suppress(tf.errors.NotFoundError):  # another run of the same work was faster
                tf.io.gfile.remove(posixpath.join(self._folder, old))

    def latest(self) -> dict[str, npt.NDArray[Any]] | None:
        """Return the newest checkpoint that is whole, or None; a damaged one is skipped with a warning."""
        for name in self._names():
            path = posixpath.join(self._folder, name)
            with tf.io.gfile.GFile(path, "rb") as file:
                content = file.read()
            if hashlib.sha256(content).hexdigest() == name.removesuffix(SUFFIX).partition("-")[2]:
                with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                    return dict(arrays)
            log.warning(
                "the checkpoint %s is damaged (its content does not match the SHA-256 in its name); "
                "training goes on from the one before, or from the start",
                path,
            )
        return None

    def clear(self) -> None:
        """Remove all checkpoints, once the work is done."""
        if self._writes:
            with contextlib.suppress(tf.errors.NotFoundError):
                tf.io.gfile.rmtree(self._folder)

    def _names(self) -> list[str]:
        """Names of the finished checkpoints, newest first."""
        if not tf.io.gfile.exists(self._folder):
            return []
        found = (name for name in tf.io.gfile.listdir(self._folder) if name.endswith(SUFFIX))
        return sorted(found, reverse=True)


def folder_of(root: str, variant: str, work: Any) -> str:
    """Return the folder under `root` for one piece of work.

    work: everything that its result depends on (job, code, data), JSON-serialisable.
    """
    digest = hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()
    return posixpath.join(root, f"{variant}-{digest[:16]}")


def remove_abandoned(root: str, seconds: float = ABANDONED_SECONDS) -> None:
    """Remove the folders under `root` that nothing was written to for so long.

    They belong to work that failed and was never tried again, since its code, config or data have changed.
    """
    if not tf.io.gfile.exists(root):
        return
    for name in tf.io.gfile.listdir(root):
        folder = posixpath.join(root, name.rstrip("/"))
        with contextlib.suppress(tf.errors.NotFoundError):  # another run was faster
            files = [posixpath.join(folder, file) for file in tf.io.gfile.listdir(folder)]
            written = [tf.io.gfile.stat(file).mtime_nsec / 1e9 for file in files]
            if written and max(written) < time.time() - seconds:
                tf.io.gfile.rmtree(folder)
