"""Faults at any one file operation of this process: a kill, a power loss, a full disk.

Counted as operations are all calls of Python, TFX and ML Metadata that change files under a folder: each
name that is made, changed or removed, the first write to each file, each fsync and each transaction. A copy
or a write that the fault hits leaves half of its bytes.
"""

import builtins
import enum
import errno
import io
import os
import pathlib
import signal
import sqlite3
from collections.abc import Callable
from typing import Any

import ml_metadata
import pytest
from tfx.dsl.io import fileio

STORE = ("metadata.db", "metadata.db-journal")
"""Files of SQLite, which puts each transaction on disk by itself."""
UNLIKELY_FULL = ("unlink", "rmdir", "remove", "rmtree")
"""Operations that need no room; a disk answers them with an I/O error instead."""


class Kind(enum.StrEnum):
    """What happens at the operation."""

    KILL = "kill"
    POWER = "power loss"
    """A kill, after which files that were not synchronized are empty."""
    FULL = "full disk"


class Killed(BaseException):
    """The process is gone: nothing that comes after it is carried out."""


class Faults:
    """Counts the operations that change files under a folder, and makes one of them fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: pathlib.Path, real: bool = False) -> None:
        """folder: where operations count. real: let this process end by SIGKILL, and not by an exception."""
        self.count = 0
        self._folder, self._real = folder, real
        self._at, self._kind = -1, Kind.KILL
        self._known: set[tuple[int, int, int]] = set()
        self._open: Callable[..., Any] = builtins.open
        self._to_disk: Callable[[int], None] = os.fsync
        self._database: Callable[..., Any] = sqlite3.connect
        for owner, names in (
            (os, ("rename", "replace", "unlink", "mkdir", "rmdir", "link", "symlink", "truncate")),
            (fileio, ("makedirs", "mkdir", "remove", "rename", "rmtree")),
        ):
            for name in names:
                monkeypatch.setattr(owner, name, self._failing(getattr(owner, name), name))
        monkeypatch.setattr(os, "fsync", self._fsync)
        monkeypatch.setattr(sqlite3, "connect", self._connect)
        monkeypatch.setattr(fileio, "copy", self._copying(fileio.copy))
        monkeypatch.setattr(
            ml_metadata.MetadataStore, "_call", self._storing(ml_metadata.MetadataStore._call)
        )
        for owner in (builtins, io):
            monkeypatch.setattr(owner, "open", self._opening(builtins.open if owner is builtins else io.open))
        monkeypatch.setattr(fileio, "open", self._opening(fileio.open))

    def arm(self, at: int, kind: Kind) -> None:
        """Let the operation of that number fail, counted from here and from 0."""
        self._known = {self._mark(path.stat()) for path in self._files()}
        self.count, self._at, self._kind = 0, at, kind

    def disarm(self) -> None:
        """Let everything succeed again; after a power loss, empty what was not synchronized."""
        struck, self._at = self._at >= 0 and self.count > self._at, -1
        if struck and self._kind is Kind.POWER:
            for path in self._files():
                if self._mark(path.stat()) not in self._known:
                    os.truncate(path, 0)

    def _files(self) -> list[pathlib.Path]:
        return [p for p in self._folder.rglob("*") if p.is_file() and p.name not in STORE]

    @staticmethod
    def _mark(stat: os.stat_result) -> tuple[int, int, int]:
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def _step(self, name: str = "", torn: Callable[[], object] = lambda: None) -> None:
        """Count an operation, and strike if it is the one; torn: leaves behind half of what it would have."""
        self.count += 1
        if self._at < 0 or self.count <= self._at:
            return
        if self.count == self._at + 1:
            torn()
            if self._kind is Kind.FULL:
                number = errno.EIO if name in UNLIKELY_FULL else errno.ENOSPC
                raise OSError(number, os.strerror(number))
            if self._real:
                self.disarm()
                os.kill(os.getpid(), signal.SIGKILL)
        if self._kind is not Kind.FULL:
            raise Killed

    def _failing(self, real: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self._step(name)
            return real(*arguments, **named)

        return call

    def _fsync(self, descriptor: int) -> None:
        self._step()
        self._to_disk(descriptor)
        self._known.add(self._mark(os.fstat(descriptor)))

    def _connect(self, database: Any, *arguments: Any, **named: Any) -> Any:
        if "mode=r" not in str(database):  # a copy, which SQLite puts on disk
            self._step()
        return self._database(database, *arguments, **named)

    def _storing(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(store: Any, method: str, *arguments: Any) -> Any:
            if method.startswith("Put"):
                self._step()
            return real(store, method, *arguments)

        return call

    def _copying(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def copy(source: Any, target: Any, overwrite: bool = False) -> None:
            def torn() -> None:
                content = pathlib.Path(source).read_bytes()
                with self._open(target, "wb") as file:
                    file.write(content[: len(content) // 2])

            self._step(torn=torn)
            real(source, target, overwrite=overwrite)

        return copy

    def _opening(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def open_file(file: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
            if not set(mode) & set("wax+") or not self._inside(file):
                return real(file, mode, *arguments, **named)
            self._step()
            return _Written(real(file, mode, *arguments, **named), self._step)

        return open_file

    def _inside(self, file: Any) -> bool:
        return isinstance(file, str | os.PathLike) and pathlib.Path(file).is_relative_to(self._folder)


class _Written:
    """A file that is open for writing; its first write is an operation."""

    def __init__(self, file: Any, step: Callable[..., None]) -> None:
        self._file, self._step, self._begun = file, step, False

    def write(self, content: Any) -> Any:
        def torn() -> None:
            self._file.write(content[: len(content) // 2])
            self._file.flush()

        if not self._begun:
            self._begun = True
            self._step(torn=torn)
        return self._file.write(content)

    def __enter__(self) -> "_Written":
        return self

    def __exit__(self, *reason: object) -> None:
        self._file.close()

    def __iter__(self) -> Any:
        return iter(self._file)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
