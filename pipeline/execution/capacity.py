"""How many cores' worth of components a machine can run side by side."""

import math
import os
import pathlib
import sys

MEMORY_PER_JOB = 2 << 30
"""Bytes of free memory that a component is counted with; a trainer on MNIST takes about half of that."""
CGROUP = pathlib.Path("/sys/fs/cgroup")
GPUS = "nvidia[0-9]*"
"""Device files of NVIDIA's driver, one per GPU."""


def jobs(devices: pathlib.Path = pathlib.Path("/dev"), cgroup: pathlib.Path = CGROUP) -> int:
    """Return the number of jobs that cores and memory allow, at least 1.

    It is 1 where there is a GPU, of which one process takes all memory, and on systems other than Linux,
    whose libraries may not be forked.
    """
    if not sys.platform.startswith("linux") or any(devices.glob(GPUS)):
        return 1
    return max(1, min(cores(cgroup), free_memory(cgroup) // MEMORY_PER_JOB))


def cores(cgroup: pathlib.Path = CGROUP) -> int:
    """Return the cores that this process may use, by its affinity and the quota of its container."""
    allowed = len(os.sched_getaffinity(0))
    quota, _, period = _read(cgroup / "cpu.max").partition(" ")
    if quota.isdecimal() and period.isdecimal():
        allowed = min(allowed, math.ceil(int(quota) / int(period)))
    return allowed


def free_memory(cgroup: pathlib.Path = CGROUP, info: pathlib.Path = pathlib.Path("/proc/meminfo")) -> int:
    """Return the bytes that this process may still take, by the machine and by its container's limit."""
    facts = dict(line.split(":") for line in _read(info).splitlines())
    free = int(facts["MemAvailable"].split()[0]) * 1024
    limit, used = _read(cgroup / "memory.max"), _read(cgroup / "memory.current")
    if limit.isdecimal() and used.isdecimal():
        free = min(free, int(limit) - int(used))
    return free


def _read(path: pathlib.Path) -> str:
    """Return the text of a file of the kernel; empty where this system has none of the name."""
    return path.read_text().strip() if path.exists() else ""
