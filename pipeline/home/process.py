"""Processes: whether one that was written down still lives, and how to start another latentline."""

import os
import pathlib
import sys
from collections.abc import Mapping

import pipeline


def command(*arguments: str) -> list[str]:
    """The latentline command with `arguments`, to be run in `environment`.

    Without -P, a folder `pipeline` in the working directory would be taken for this package.
    """
    return [sys.executable, "-P", "-m", "pipeline", *arguments]


def environment(mine: Mapping[str, str]) -> dict[str, str]:
    """The environment `mine`, in which a child finds this very package."""
    here = str(pathlib.Path(pipeline.__path__[0]).parent)
    return {**mine, "PYTHONPATH": os.pathsep.join(filter(None, [here, mine.get("PYTHONPATH")]))}


def identity(pid: int) -> str:
    """What tells the living process `pid` from any other that ever has its number; empty where there is none.

    Linux: the boot and the clock tick at which it started. Elsewhere only that it exists.
    """
    if not pathlib.Path("/proc/self/stat").exists():
        return "alive" if _exists(pid) else ""
    try:
        # The name in parentheses may hold anything; the fields after it are numbered from the third.
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    state, started = fields[0], fields[19]
    return "" if state in "ZX" else f"{boot}/{started}"


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
