import json
import os
import pathlib
import socket
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from trainer import variants
from trainer.devices import scale

SCRIPTS = pathlib.Path(__file__).parents[1] / "scripts"
TRAIN = SCRIPTS / "train.py"
STEPS = "120"


def cluster(kind: str, index: int, **members: list[str]) -> dict[str, str]:
    return {"TF_CONFIG": json.dumps({"cluster": members, "task": {"type": kind, "index": index}})}


def launch(out: pathlib.Path, folder: str | pathlib.Path = "", **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(TRAIN), str(out), STEPS, *([str(folder)] if folder else [])],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-2000:]
    return out.split()[-1]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    out = tmp_path_factory.mktemp("alone") / "weights.npz"
    assert finish(launch(out)) == "1"
    return out


def assert_equal_up_to_rounding(path: pathlib.Path, other: pathlib.Path) -> None:
    one, two = np.load(path), np.load(other)
    assert one.files == two.files
    for name in set(one.files) - {"frames"}:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-5, atol=1e-5, err_msg=name)


def saved_variables(folder: str | pathlib.Path) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(f"{folder}/variables/variables")
    names = [name for name in reader.get_variable_to_shape_map() if "OBJECT_GRAPH" not in name]
    return {name: reader.get_tensor(name) for name in names}


def test_two_processes_with_one_seed_save_the_same_model_bit_for_bit(
    alone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    finish(launch(tmp_path / "weights.npz"))
    ours, theirs = saved_variables(f"{alone}.model"), saved_variables(tmp_path / "weights.npz.model")
    assert len(ours) >= 4
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_two_devices_end_where_one_does(alone: pathlib.Path, tmp_path: pathlib.Path) -> None:
    assert finish(launch(tmp_path / "weights.npz", LOGICAL_DEVICES="2")) == "2"
    assert_equal_up_to_rounding(alone, tmp_path / "weights.npz")


@pytest.fixture(scope="module")
def distance() -> Callable[[str, str], float]:
    """How far two devices, or cores, end from one, of a variant and way, relative to their steps."""

    script = [sys.executable, str(SCRIPTS / "devices.py"), *variants.names()]
    done = subprocess.run(script, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    measured: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return lambda name, way: measured[name][way]


@pytest.mark.long
@pytest.mark.parametrize("name", variants.names())
def test_a_variant_trains_on_two_devices_as_on_one(distance: Callable[[str, str], float], name: str) -> None:
    assert distance(name, "devices") < 0.01


@pytest.mark.long
@pytest.mark.parametrize("name", variants.names())
def test_a_variant_trains_on_two_cores_as_on_one(distance: Callable[[str, str], float], name: str) -> None:
    assert distance(name, "cores") < 0.01


def test_two_workers_end_where_one_does_and_only_the_chief_writes(
    alone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("localhost", 0))
        hosts = [f"localhost:{each.getsockname()[1]}" for each in (first, second)]
    workers = [
        launch(tmp_path / f"worker-{i}.npz", tmp_path / "checkpoints", **cluster("worker", i, worker=hosts))
        for i in range(2)
    ]
    assert [finish(worker) for worker in workers] == ["2", "2"]
    assert_equal_up_to_rounding(alone, tmp_path / "worker-0.npz")
    assert not (tmp_path / "worker-1.npz").exists()
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


def test_without_a_cluster_or_gpus_there_is_one_device_and_it_is_the_chief() -> None:
    one = cluster("worker", 0, worker=["localhost:1"])
    for environment in ({}, {"TF_CONFIG": ""}, one):
        assert scale.choose(environment).num_replicas_in_sync == 1
        assert scale.is_chief(environment)


@pytest.mark.parametrize(
    ("environment", "chief"),
    [
        (cluster("worker", 0, worker=["a:1", "b:1"]), True),
        (cluster("worker", 1, worker=["a:1", "b:1"]), False),
        (cluster("chief", 0, chief=["c:1"], worker=["a:1"]), True),
        (cluster("worker", 0, chief=["c:1"], worker=["a:1"]), False),
    ],
)
def test_one_process_of_a_cluster_is_the_chief(environment: dict[str, str], chief: bool) -> None:
    assert scale.is_chief(environment) == chief


@pytest.mark.parametrize("text", ["{", "[]", '{"cluster": []}'])
def test_a_tf_config_that_is_not_one_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="TF_CONFIG"):
        scale.choose({"TF_CONFIG": text})
