"""What every test may use: small handwritten digits as IDX files, and a quiet TensorFlow."""

import os
import pathlib
from collections.abc import Iterator

import pytest
from tallies import pytest_addoption, pytest_runtest_call, pytest_terminal_summary, tally  # noqa: F401
from warm import Warm

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from components.ingest import idx, sources
from schemas import TEST_SPLIT, TRAIN_SPLIT
from trainer.devices import threads

threads.one_an_operation()

TRAIN_IMAGES, TEST_IMAGES = 400, 120


@pytest.fixture(scope="session")
def digits() -> dict[str, idx.Images]:
    """Real handwritten digits by split, few enough for a test."""
    counts = {TRAIN_SPLIT: TRAIN_IMAGES, TEST_SPLIT: TEST_IMAGES}
    return {
        split: idx.Images(pair.images[: counts[split]], pair.labels[: counts[split]])
        for split, pair in sources.digits().items()
    }


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory: pytest.TempPathFactory, digits: dict[str, idx.Images]) -> pathlib.Path:
    """The digits as four IDX files."""
    folder = tmp_path_factory.mktemp("digits")
    for split, prefix in ((TRAIN_SPLIT, "train"), (TEST_SPLIT, "t10k")):
        idx.write(str(folder / f"{prefix}-images-idx3-ubyte"), digits[split].images)
        idx.write(str(folder / f"{prefix}-labels-idx1-ubyte"), digits[split].labels)
    return folder


@pytest.fixture
def one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A metadata store that cannot be opened fails at once; TFX tries ten times, which takes five seconds."""
    monkeypatch.setattr("tfx.orchestration.metadata._MAX_INIT_RETRY", 1)


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """Runs commands of these sources without their seconds of imports."""
    process = Warm(tmp_path_factory.mktemp("warm"), pathlib.Path(__file__).parent.parent)
    yield process
    process.close()
