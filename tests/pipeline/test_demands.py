"""What the gate demands of a candidate and of the test split, on one machine and in containers."""

import pathlib
from collections.abc import Sequence
from typing import Any

import pytest
import tensorflow_model_analysis as tfma
from small import TOYS, VARIANT, balanced, pipeline
from ways import WAYS, Way

from components.evaluation.eval_config import Demands, eval_config, headlines
from components.evaluation.gated import GateSettings
from components.gate.noise import Declared
from components.identity import DATASET
from components.reporting.results import why_not
from components.serving.versions import published
from pipeline.home import metadata
from schemas import CLASSES

NOISE = {"accuracy": Declared(0.01, seeds=20), "elbo": Declared(0.5, seeds=20)}


class Life(Way):
    """A home whose runs train a toy of a family."""

    def night(self, family: str, wrong: int = 0, **options: Any) -> str:
        """Run to the end, with exit code 0; why the candidate was not pushed, empty if it was."""
        metrics = headlines(family)
        era = {"variant": VARIANT, DATASET: TOYS.dataset}
        gate = GateSettings(tuple(metrics), era, {name: NOISE[name] for name in metrics})
        before = self.versions()
        ended = self.run(pipeline(self.home, wrong, gate, config=config(family), **options))
        assert ended.code == 0, ended.words
        with metadata.opened(self.home) as store:
            evaluation = store.of_type(metadata.EVALUATION)[-1].uri
        reason = why_not(evaluation, VARIANT)
        assert (self.versions() == before) is bool(reason)
        return reason

    def versions(self) -> list[int]:
        return published(str(self.home.versions(VARIANT)))


def config(family: str) -> tfma.EvalConfig:
    """The demands on a family in a profile that demands an active unit, without slices."""
    units = 0.0 if family == "classifier" else 1.0
    floor = {"classifier": 0.1, "generative": -150.0, "both": -150.0}[family]
    made = eval_config(family, Demands(floor=floor, min_active_units=units), "code")
    del made.slicing_specs[1:]
    return made


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("labels", "wrong", "reason"),
    [
        (balanced(90), 0, "the test split has 90 images; a verdict needs at least 100"),
        ([0] * 191 + list(range(1, CLASSES)), 0, "the rarest class of the test split has 1 images"),
        ([0] * 900 + balanced(100), 90, "accuracy does not exceed what a constant answer reaches"),
    ],
)
def test_a_split_that_supports_no_verdict_pushes_nobody_and_is_no_failure(
    way: str, labels: Sequence[int], wrong: int, reason: str, tmp_path: pathlib.Path
) -> None:
    assert Life(way, tmp_path).night("classifier", wrong, labels=labels).startswith(reason)


@pytest.mark.parametrize("way", WAYS)
def test_a_generative_model_without_an_active_unit_is_not_pushed(way: str, tmp_path: pathlib.Path) -> None:
    found = Life(way, tmp_path).night("generative", active=False)
    assert found == "active_units 0 is below the floor 1"


@pytest.fixture(scope="module", params=WAYS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Life:
    """A home whose model in production both generates and classifies."""
    life = Life(request.param, tmp_path_factory.mktemp(request.param))
    assert life.night("both", wrong=10) == ""
    return life


@pytest.mark.parametrize(
    ("quality", "reason"),
    [
        ({"wrong": 80, "elbo": -99.0}, "accuracy -34.7 points"),
        ({"wrong": 9, "elbo": -110.0}, "elbo -10.0 nats"),
    ],
)
def test_a_model_that_does_both_is_refused_for_a_loss_in_either_metric(
    both: Life, quality: dict[str, Any], reason: str
) -> None:
    assert both.night("both", **quality).startswith(reason)
