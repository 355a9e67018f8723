"""The data side of a nightly run: spans in, statistics, drift found or let through; without training."""

import os
import pathlib
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
from tfx.dsl.compiler.compiler import Compiler

from components.ingest import idx, sources
from components.validation.drift import descriptions
from pipeline.config.errors import RunFailed
from pipeline.config.settings import Settings
from pipeline.execution.local import LocalRunner
from pipeline.home import metadata
from pipeline.home.layout import Home
from pipeline.pipeline import create_pipeline
from schemas import IMAGE, TRAIN_SPLIT

DATA_SIDE = (
    "IdxExampleGen", "StatisticsGen", "ImportSchemaGen", "ExampleValidator", "AnomalyGate",
    "Resolver.statistics", "DriftValidator", "DriftGate",
)  # fmt: skip


class Nights:
    """A folder of spans and a home; each run is one night."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.data, self.home = folder / "data", folder / "home"
        self.images = sources.digits()
        self.served = ""
        self.spans = 1

    def deliver(self, span: int, change: int = 0, name: str = "") -> None:
        """Span `span`: its own share of the digits, grey values XORed with `change`."""
        folder = self.data / (name or f"span-{span}")
        folder.mkdir(parents=True)
        for split, prefix in idx.PREFIXES.items():
            images, labels = self.images[split]
            mine = np.arange(len(labels)) % 3 == span % 3
            idx.write(str(folder / f"{prefix}-images-idx3-ubyte"), images[mine] ^ np.uint8(change))
            idx.write(str(folder / f"{prefix}-labels-idx1-ubyte"), labels[mine])

    def run(self, drift: str = "stop", folder: str = "") -> list[str]:
        """The runner's lines. Raises RunFailed."""
        data = str(self.data / folder)
        settings = Settings(
            variants=("linear",), data=data, home=str(self.home), spans=self.spans, drift=drift,
            serving_data=self.served,
        )  # fmt: skip
        self.home.mkdir(exist_ok=True)
        ir = Compiler().compile(create_pipeline(settings, sources.Dataset("data", data)))
        for index in reversed(range(len(ir.nodes))):
            if ir.nodes[index].pipeline_node.node_info.id not in DATA_SIDE:
                del ir.nodes[index]
        self.said: list[str] = []
        self.runner = LocalRunner(self.said.append)
        self.runner.run_with_ir(ir)
        return self.said

    def found(self) -> list[str]:
        """What the validator of the last run says."""
        execution = self.runner.executions["DriftValidator"]
        with metadata.opened(Home(self.home)) as store:
            [anomalies] = store.outputs(execution)["anomalies"]
        return descriptions(anomalies.uri)


@pytest.fixture
def nights(tmp_path: pathlib.Path) -> Nights:
    made = Nights(tmp_path)
    made.deliver(1)
    return made


def test_a_span_that_drifted_stops_the_run_and_is_no_measure_for_the_next(nights: Nights) -> None:
    nights.run()
    assert nights.found() == []
    nights.deliver(2, change=255)
    with pytest.raises(RunFailed) as caught:
        nights.run()
    [line] = str(caught.value).splitlines()
    assert line.startswith(
        "DriftGate failed: mean_intensity of the eval split has drifted from the last accepted data"
    )
    assert "accept it with --drift warn" in line
    assert len(nights.found()) == 2
    nights.deliver(3)
    nights.run()
    assert nights.found() == []


def test_a_drift_once_accepted_is_the_new_measure(nights: Nights) -> None:
    nights.run()
    nights.deliver(2, change=255)
    said = nights.run(drift="warn")
    assert any(line.startswith("! accepted because drift is set to warn: mean_intensity of") for line in said)
    nights.deliver(4, change=255)
    nights.run()
    assert nights.found() == []
    for span in (2, 4):
        shutil.rmtree(nights.data / f"span-{span}")
    nights.deliver(5)
    nights.run()
    assert nights.found() == []


def test_nothing_new_is_all_cached_also_after_a_span_was_withdrawn(nights: Nights) -> None:
    nights.run()
    nights.deliver(2)
    nights.run()
    told = (
        r"nothing to do: nothing has changed since the run of \d{4}-\d\d-\d\d \d\d:\d\d; "
        "all 7 components came from the cache"
    )
    assert re.fullmatch(told, nights.run()[-1])
    shutil.rmtree(nights.data / "span-2")
    assert re.fullmatch(told, nights.run()[-1])
    nights.deliver(4)
    assert not any(line.startswith("nothing to do") for line in nights.run())


def test_what_clients_sent_is_compared_and_looked_at_again_when_it_changes(
    nights: Nights, tmp_path: pathlib.Path
) -> None:
    images = nights.images[TRAIN_SPLIT].images[:200]
    nights.served = str(tmp_path / "served")
    (tmp_path / "served").mkdir()
    file = str(tmp_path / "served" / "monday.tfrecord")
    for change, alike in ((0, True), (255, False)):
        with tf.io.TFRecordWriter(file) as writer:
            for image in images ^ np.uint8(change):
                example = tf.train.Example()
                example.features.feature[IMAGE].bytes_list.value.append(image.tobytes())
                writer.write(example.SerializeToString())
        os.utime(file, (1e9, 1e9))
        if alike:
            nights.run()
        else:
            with pytest.raises(
                RunFailed, match="mean_intensity of the train split differs from what clients send"
            ):
                nights.run()


def test_a_plain_folder_is_compared_with_the_data_accepted_last(nights: Nights) -> None:
    """Tuesday's images are inverted and stopped; Wednesday's are compared with Monday's and pass."""
    nights.spans = 0
    for day, span, change in (("monday", 1, 0), ("tuesday", 2, 255), ("wednesday", 3, 0)):
        nights.deliver(span, change, day)
    link = nights.data / "today"
    found = {}
    for day in ("monday", "tuesday", "wednesday", "wednesday"):
        link.unlink(missing_ok=True)
        link.symlink_to(day)
        if day == "tuesday":
            with pytest.raises(RunFailed, match="mean_intensity of the train split has drifted"):
                nights.run(folder="today")
        else:
            found[day] = nights.run(folder="today")[-1].startswith("nothing to do")
            assert nights.found() == []
    assert found == {"monday": False, "wednesday": True}
