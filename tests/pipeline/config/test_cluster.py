import copy
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from pipeline.config.cluster import Accelerator, Cluster, ClusterError, Toleration, check_cron

SHIPPED = pathlib.Path(__file__).parents[3] / "kubeflow" / "cluster.yaml"
DIGEST = "images.example/latentline@sha256:" + "0" * 64


@pytest.fixture
def values() -> dict[str, Any]:
    return yaml.safe_load(SHIPPED.read_text())


@pytest.fixture
def load(tmp_path: pathlib.Path) -> Callable[[dict[str, Any]], Cluster]:
    def read(values: Any) -> Cluster:
        path = tmp_path / "cluster.yaml"
        path.write_text(yaml.safe_dump(values))
        return Cluster.from_file(str(path))

    return read


def test_the_shipped_file_sends_trainers_to_the_gpus_and_all_else_to_the_cpus() -> None:
    cluster = Cluster.from_file(str(SHIPPED))
    assert cluster.pool_of("Trainer.cvae") == "gpu"
    assert {cluster.pool_of(node) for node in ("Transform", "Evaluator.cvae", "Resolver.cvae")} == {"cpu"}
    assert cluster.pools["gpu"].accelerator == Accelerator("nvidia.com/gpu", 1)
    assert cluster.pools["gpu"].tolerations == (Toleration("nvidia.com/gpu"),)


def test_the_shipped_file_has_a_value_for_every_field(values: dict[str, Any]) -> None:
    assert set(values) == set(Cluster.__dataclass_fields__)


def test_the_first_entry_of_placement_that_fits_decides(values: dict[str, Any], load: Any) -> None:
    values["placement"].insert(0, {"nodes": "Trainer.mlp", "pool": "cpu"})
    assert load(values).pool_of("Trainer.mlp") == "cpu"


def test_a_node_without_a_pool_is_an_error(values: dict[str, Any], load: Any) -> None:
    values["placement"].pop()
    with pytest.raises(ClusterError, match="no entry for Transform"):
        load(values).pool_of("Transform")


def test_an_image_by_digest_needs_no_permission(values: dict[str, Any], load: Any) -> None:
    values |= {"image": DIGEST, "unpinned_image": False}
    assert load(values).image == DIGEST


@pytest.mark.parametrize("character", "*?[]\\")
@pytest.mark.parametrize("field", ["root", "serving"])
def test_a_folder_that_tfx_would_read_as_a_pattern_is_refused(
    values: dict[str, Any], load: Any, field: str, character: str
) -> None:
    values[field] = f"/latentline/team{character}a"
    with pytest.raises(ClusterError, match=f"{field} must hold none of .*rename the folder"):
        load(values)


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(values: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        place: Any = values
        for parent in parents:
            place = place[int(parent)] if isinstance(place, list) else place[parent]
        place[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_set("unpinned_image", False), r"image must be name@sha256:DIGEST.*'latentline:dev'"),
        (_set("imagee", "x"), "imagee: no such field; did you mean image"),
        (_set("pools.gpu.gpus", 1), "pools.gpu.gpus: no such field; "),
        (_set("pools.cpu.memory", "8 gigabytes"), "pools.cpu: memory must be a quantity"),
        (_set("pools.cpu.cpu", 2), "pools.cpu.cpu must be text, got 2; put it in quotes"),
        (_set("pools.gpu.accelerator.count", 0), "pools.gpu.accelerator: count must be at least 1"),
        (_set("pools.gpu.accelerator.count", True), "must be a whole number, got True"),
        (_set("pools.gpu.tolerations", {}), "must be a list"),
        (_set("pools.gpu.tolerations.0.effect", "Never"), r"tolerations\[0\]: effect must be"),
        (_set("pools.gpu.tolerations.0.operator", "Equal"), "value goes with operator Equal"),
        (_set("pools.gpu.retry.wait", "soon"), "wait must be a duration"),
        (_set("pools.gpu.retry.times", -1), "times must be at least 0"),
        (_set("pools.gpu.node_selector", {"a": True}), "node_selector.a must be text"),
        (_set("placement.0.pool", "tpu"), "placement sends .* to the pool 'tpu'; there are cpu, gpu"),
        (_set("root", "s3://bucket"), "root must be gs:// or a folder on a volume"),
        (_set("root", "/elsewhere"), "root must be"),
        (_set("root", "/latentline/../elsewhere"), "root must be"),
        (_set("root", "/latentline-other"), "root must be"),
        (_set("serving", "gs://bucket/serving"), "serving must be a folder on a volume"),
        (_set("data.folder", "/data"), "data.folder must be"),
        (_set("volumes.0.mount", "/gcs/x"), "is taken"),
        (_set("volumes.0.mount", "relative"), "must be an absolute path"),
        (_set("volumes.0.claim", "Not A Name"), "claim must be"),
        (_set("metadata.sqlite", "/latentline/metadata.db"), "give either mysql or sqlite"),
        (_set("metadata.mysql", None), "give either mysql or sqlite"),
        (_set("metadata.mysql.port", 99999), "port must be between 1 and 65535"),
        (_set("metadata.mysql.password", "hunter2"), "password must be `key: value` lines"),
        (_set("secrets", {"lower": {"name": "a", "key": "b"}}), "names of environment variables"),
        (_set("image_pull_policy", "Sometimes"), "image_pull_policy must be"),
        (_set("schedule.cron", "0 2 * * *"), "six fields"),
        (_set("endpoint.url", "localhost:8080"), "must begin with http"),
        (_set("endpoint.timeout", 0), "timeout must be above 0"),
        (_set("beam", {"Transform": []}), "beam has no default"),
        (_set("data", {"name": "mnist"}), "data: folder is missing"),
        (_set("log_format", "xml"), "log_format must be plain or json"),
    ],
)
def test_a_mistake_is_told_in_one_line_that_says_where(
    values: dict[str, Any], load: Any, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    values = copy.deepcopy(values)
    change(values)
    with pytest.raises(ClusterError, match=words) as error:
        load(values)
    assert len(str(error.value).splitlines()) == 1
    assert "cluster.yaml: " in str(error.value)


def test_a_gs_root_is_accepted(values: dict[str, Any], load: Any) -> None:
    values["root"] = "gs://bucket/root"
    assert load(values).root == "gs://bucket/root"


def test_a_file_that_is_no_mapping_or_does_not_exist_is_told(load: Any, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ClusterError, match="must be `key: value` lines"):
        load(["a list"])
    with pytest.raises(ClusterError, match="cannot read the cluster file"):
        Cluster.from_file(str(tmp_path / "missing.yaml"))


@pytest.mark.parametrize("cron", ["0 0 2 * * *", "0 */15 8-18 ? * MON-FRI", "0 0,30 * 1 JAN *"])
def test_a_cron_with_six_fields_is_accepted(cron: str) -> None:
    check_cron(cron)


def test_a_cron_of_five_fields_is_told_how_to_become_one_of_six() -> None:
    with pytest.raises(ValueError, match=r'as in "0 0 2 \* \* \*"'):
        check_cron("0 2 * * *")
