"""The table of the benchmark of whole runs."""

import argparse
import pathlib

import pytest

from benchmarks import whole_run
from benchmarks.whole_run import BASELINE, OURS, Cost


def test_ratios_are_medians_over_the_rounds_and_the_rest_is_shown_for_one_trainer_at_a_time_only() -> None:
    costs = {
        OURS: [Cost(50.0, 90.0, 20.0), Cost(60.0, 90.0, 20.0), Cost(30.0, 90.0, 20.0)],
        BASELINE: [Cost(100.0, 100.0, 40.0), Cost(100.0, 120.0, 40.0), Cost(100.0, 90.0, 40.0)],
    }
    lines = whole_run.table(costs, "mnist", one_at_a_time=True)
    assert any("whole run" in line and "ratio 0.50 (0.30 to 0.60)" in line for line in lines)
    assert any("everything but the steps" in line and "ratio 0.50 (0.17 to 0.67)" in line for line in lines)
    assert not any("everything" in line for line in whole_run.table(costs, "mnist", one_at_a_time=False))


def test_a_baseline_without_an_environment_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="has no .venv/bin/python; run `make setup` there"):
        whole_run.checkout(str(tmp_path))
