"""Unlike things are never compared: such a run stops before training, with exit code 2, whatever runs it."""

import dataclasses
from typing import Any

import pytest
from small import TOYS, VARIANT, pipeline
from ways import WAYS, Night, Way

from components.evaluation.gated import GateSettings
from components.gate.noise import Declared
from components.gate.record import Record
from components.identity import DATASET, Identity
from components.serving.versions import published
from pipeline.home import metadata
from pipeline.registry import alarms, lineage
from pipeline.registry.data import of_production

ERA = {"variant": VARIANT, DATASET: TOYS.dataset}
GATE = GateSettings(("accuracy",), ERA, {"accuracy": Declared(0.01, seeds=20)})
OTHERS = {
    "data set": dataclasses.replace(TOYS, dataset="scans"),
    "protocol": dataclasses.replace(TOYS, protocol="grey"),
    "image shape": dataclasses.replace(TOYS, image_shape="32x32"),
    "classes": dataclasses.replace(TOYS, classes=26),
}


class Life(Way):
    """A home whose runs train a toy."""

    def night(self, wrong: int, trained_on: Identity = TOYS, **options: Any) -> Night:
        return self.run(pipeline(self.home, wrong, GATE, trained_on=trained_on, **options))

    def versions(self) -> list[int]:
        return published(str(self.home.versions(VARIANT)))

    def trained(self) -> int:
        with metadata.opened(self.home) as store:
            return len(store.of_type(metadata.MODEL))

    def compared_with(self) -> dict[str, Any]:
        """What lineage says that the newest model was compared with."""
        with metadata.opened(self.home) as store:
            newest = store.of_type(metadata.MODEL)[-1]
            return lineage.compared_with(store, lineage.evaluation_of(store, newest)) or {}

    def record(self) -> Record:
        with metadata.opened(self.home) as store:
            return alarms.newest(store)[VARIANT].record


@pytest.fixture(scope="module", params=WAYS)
def life(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Life:
    """A home in which one night has pushed a model."""
    life = Life(request.param, tmp_path_factory.mktemp(request.param))
    assert life.night(20).code == 0
    assert len(life.versions()) == 1
    return life


@pytest.mark.parametrize("what", OTHERS)
def test_a_run_whose_models_could_not_be_compared_with_production_stops_before_training(
    life: Life, what: str
) -> None:
    before = life.versions()
    refused = life.night(10, OTHERS[what])
    assert refused.code == 2
    assert f"{VARIANT}: {what} " in refused.words
    assert "use another --home" in refused.words
    assert "--new-era" in refused.words
    assert (life.trained(), life.versions()) == (1, before)


def test_what_serves_is_replaced_without_a_comparison_once_somebody_says_so(life: Life) -> None:
    before, scans = life.versions(), OTHERS["data set"]
    replaced = life.night(30, scans, new_era=True)
    assert (replaced.code, life.versions()[:-1]) == (0, before)
    assert "it is replaced without a comparison" in replaced.words
    assert life.record().findings == {}
    assert life.compared_with()["replaced"] is True
    assert of_production(life.home) == {VARIANT: "scans"}

    again = life.night(30, scans, new_era=True)
    assert life.name != "local" or "nothing to do" in again.words

    assert life.night(28, scans).code == 0  # from now on compared as ever, without the word
    assert list(life.record().findings) == ["accuracy"]
    back = life.night(20)
    assert (back.code, f"{VARIANT}: data set scans, now toys" in back.words) == (2, True)
