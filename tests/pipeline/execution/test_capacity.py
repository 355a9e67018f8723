"""How many jobs cores and memory allow."""

import pathlib

import pytest

from pipeline.execution import capacity

GIBIBYTE = 1 << 30


@pytest.fixture
def machine(tmp_path: pathlib.Path) -> pathlib.Path:
    """The files of a kernel, without limits: `cgroup`, `dev` and `meminfo`."""
    (tmp_path / "cgroup").mkdir()
    (tmp_path / "dev").mkdir()
    (tmp_path / "meminfo").write_text(f"MemTotal: 64 kB\nMemAvailable: {20 * GIBIBYTE // 1024} kB\n")
    return tmp_path


def test_a_container_s_quota_of_cores_counts_rounded_up(machine: pathlib.Path) -> None:
    unlimited = capacity.cores(machine / "cgroup")
    assert unlimited >= 1
    (machine / "cgroup" / "cpu.max").write_text("max 100000\n")
    assert capacity.cores(machine / "cgroup") == unlimited
    (machine / "cgroup" / "cpu.max").write_text("50000 100000\n")
    assert capacity.cores(machine / "cgroup") == 1


def test_the_smaller_of_the_machine_s_and_the_container_s_memory_counts(machine: pathlib.Path) -> None:
    def free() -> int:
        return capacity.free_memory(machine / "cgroup", machine / "meminfo")

    assert free() == 20 * GIBIBYTE
    (machine / "cgroup" / "memory.max").write_text("max\n")
    (machine / "cgroup" / "memory.current").write_text(f"{GIBIBYTE}\n")
    assert free() == 20 * GIBIBYTE
    (machine / "cgroup" / "memory.max").write_text(f"{4 * GIBIBYTE}\n")
    assert free() == 3 * GIBIBYTE


def test_little_memory_and_a_gpu_leave_one_job(machine: pathlib.Path) -> None:
    (machine / "cgroup" / "memory.max").write_text(f"{GIBIBYTE}\n")
    (machine / "cgroup" / "memory.current").write_text("0\n")
    assert capacity.jobs(machine / "dev", machine / "cgroup") == 1
    (machine / "cgroup" / "memory.max").write_text("max\n")
    (machine / "dev" / "nvidia0").touch()
    assert capacity.jobs(machine / "dev", machine / "cgroup") == 1
