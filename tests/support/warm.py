"""Commands started from a process that has imported everything: a fork takes no seconds of imports.

A child runs the command as its entry point would, with an environment, output and process group of its own.
"""

import contextlib
import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

SECONDS = 240.0
"""Longest wait for a command."""


class Child:
    """A command under way, or done: its process, exit code and what it wrote."""

    def __init__(self, out: pathlib.Path, err: pathlib.Path) -> None:
        self._out, self._err = out, err
        self.pid = 0
        self.code: int | None = None
        self.gone = threading.Event()

    @property
    def out(self) -> str:
        return self._out.read_text() if self._out.exists() else ""

    @property
    def err(self) -> str:
        return self._err.read_text() if self._err.exists() else ""

    def kill(self, number: int = signal.SIGKILL) -> None:
        """To the whole process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def wait(self) -> "Child":
        if not self.gone.wait(SECONDS):
            self.kill()
            raise TimeoutError(f"a run took more than {SECONDS:.0f} s:\n{self.out}{self.err}")
        return self

    def fine(self) -> "Child":
        """Waits for it; it has to have ended well."""
        self.wait()
        assert self.code == 0, f"exit {self.code}\n{self.out}\n{self.err}"
        return self

    def error(self) -> str:
        """Waits for it; it has to have failed with exit code 1 and one line."""
        self.wait()
        assert self.code == 1, f"exit {self.code}\n{self.out}\n{self.err}"
        [line] = self.err.splitlines()
        assert line.startswith("latentline: error: "), line
        return line


class Warm:
    """A process that has imported everything (warm_process.py)."""

    def __init__(self, scratch: pathlib.Path, sources: pathlib.Path, prefix: tuple[str, ...] = ()) -> None:
        self._scratch, self.sources = scratch, sources
        scratch.mkdir(parents=True, exist_ok=True)
        with open(scratch / "warm.log", "w") as log:
            self._process = subprocess.Popen(
                [*prefix, sys.executable, str(pathlib.Path(__file__).with_name("warm_process.py"))],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                env={**os.environ, "PYTHONPATH": str(sources)},
            )  # fmt: skip
        assert self._process.stdin
        assert self._process.stdout
        self._requests, self._said = self._process.stdin, self._process.stdout
        self._lock = threading.Lock()
        self._answers: list[dict[str, Any]] = []
        self._answered = threading.Condition()
        self._children: dict[int, Child] = {}
        self._count = 0
        threading.Thread(target=self._listen, daemon=True).start()
        self.pid = self._answer()["ready"]

    def start(
        self,
        arguments: Sequence[object],
        environment: Mapping[str, str | None] | None = None,
        module: str = "pipeline.cli",
        folder: pathlib.Path | None = None,
    ) -> Child:
        """Run the module's main, in a folder or in this one; None in `environment` takes a variable away."""
        with self._lock:
            self._count += 1
            files = [self._scratch / f"{self._count}.{name}" for name in ("out", "err")]
            child = Child(*files)
            self._ask(
                {
                    "start": [str(argument) for argument in arguments],
                    "module": module,
                    "environment": environment or {},
                    "folder": str(folder or pathlib.Path.cwd()),
                    "out": str(files[0]),
                    "err": str(files[1]),
                }
            )
            child.pid = self._answer()["pid"]
            with self._answered:
                self._children[child.pid] = child
            return child

    def run(self, *command: str) -> None:
        """A command in the process's namespaces; it has to succeed."""
        with self._lock:
            self._ask({"run": command})
            done = self._answer()
        assert done["code"] == 0, f"{command}: {done['err']}"

    def close(self) -> None:
        self._requests.close()
        self._process.wait(60)

    def _ask(self, request: dict[str, Any]) -> None:
        self._requests.write(json.dumps(request).encode() + b"\n")
        self._requests.flush()

    def _answer(self) -> dict[str, Any]:
        with self._answered:
            if not self._answered.wait_for(lambda: self._answers, SECONDS):
                raise TimeoutError((self._scratch / "warm.log").read_text())
            return self._answers.pop(0)

    def _listen(self) -> None:
        for line in self._said:
            value = json.loads(line)
            with self._answered:
                if "pid" in value and "code" in value:
                    self._answered.wait_for(
                        functools.partial(self._children.__contains__, value["pid"]), SECONDS
                    )
                    child = self._children.pop(value["pid"])
                    child.code = value["code"]
                    child.gone.set()
                else:
                    self._answers.append(value)
                self._answered.notify_all()
