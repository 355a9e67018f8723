import pathlib

import numpy as np
import pytest

from benchmarks import measure_noise
from benchmarks.measure_noise import Measured, merged, spreads
from trainer import spread


def runs(count: int, profile: str = "smoke", elbo: float = -1.0) -> list[Measured]:
    values = {"elbo": elbo, "accuracy": 0.9}
    return [Measured("m2", profile, "mnist", "threshold", seed, values) for seed in range(count)]


def test_the_spread_is_the_standard_deviation_over_seeds() -> None:
    values = np.random.default_rng(0).normal(-150, 2, 12)
    found = [
        Measured("m2", "smoke", "mnist", "threshold", seed, {"elbo": value, "accuracy": 0.9})
        for seed, value in enumerate(values)
    ]
    accuracy, elbo = spreads(found, "make measure-noise")
    assert (elbo.metric, elbo.seeds, elbo.profile) == ("elbo", 12, "smoke")
    assert elbo.value == pytest.approx(values.std(ddof=1), rel=0.01)
    assert (accuracy.metric, accuracy.value) == ("accuracy", 0.0)


def test_fewer_than_ten_seeds_measure_nothing() -> None:
    with pytest.raises(ValueError, match="at least 10 seeds"):
        spreads(runs(9), "")


def test_the_same_seed_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice with seed 0"):
        spreads([*runs(10), *runs(1)], "")


def test_profiles_are_measured_apart() -> None:
    found = spreads([*runs(10), *runs(11, profile="quick")], "")
    assert {(each.profile, each.seeds) for each in found} == {("smoke", 10), ("quick", 11)}


def test_a_new_measurement_takes_the_place_of_the_old_one_and_of_no_other() -> None:
    old, other, new = spreads(runs(10), "old"), spreads(runs(10, "quick"), "other"), spreads(runs(11), "new")
    found = merged([*old, *other], new)
    assert sorted((each.profile, each.metric, each.command) for each in found) == [
        ("quick", "accuracy", "other"),
        ("quick", "elbo", "other"),
        ("smoke", "accuracy", "new"),
        ("smoke", "elbo", "new"),
    ]


def test_a_measurement_resumes_and_writes_what_the_gate_reads(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(spread, "FILE", tmp_path / "spread.json")
    spread.write([])
    words = [
        "--profile", "smoke", "--variants", "linear", "--data", "digits", "--results", str(tmp_path),
        "--seeds", "10", "--first", "0",
    ]  # fmt: skip
    file = tmp_path / "smoke-threshold" / "linear.jsonl"
    file.parent.mkdir()
    line = (
        '{"variant": "linear", "profile": "smoke", "dataset": "digits", "protocol": "threshold", "seed": %d,'
    )
    file.write_text("".join(line % seed + f' "values": {{"accuracy": {seed}}}}}\n' for seed in range(9)))
    assert measure_noise.main(words) == 0
    tenth = measure_noise.kept(file)[9]
    assert tenth.seed == 9
    assert 0.5 < tenth.values["accuracy"] < 1.0
    [found] = spread.measured()
    assert found.value == pytest.approx(np.std([*range(9), tenth.values["accuracy"]], ddof=1), rel=0.01)
    assert "linear" in capfd.readouterr().out
