import json
import logging
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import ml_metadata as mlmd
import pytest
from ml_metadata.proto import metadata_store_pb2
from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
from tfx.components.statistics_gen.component import StatisticsGen
from tfx.dsl.compiler import compiler
from tfx.dsl.experimental.conditionals import conditional
from tfx.orchestration.data_types import RuntimeParameter
from tfx.orchestration.pipeline import Pipeline
from warm import Warm

import components.ingest.example_gen
from components.ingest import sources
from components.ingest.example_gen import IdxExampleGen
from components.validation.anomaly_gate import DataAnomaly
from components.validation.drift import DataDrift
from pipeline.dag import ir
from pipeline.execution import node
from schemas import SCHEMA_FILE

State = metadata_store_pb2.Execution


@pytest.fixture(scope="module")
def compiled() -> Any:
    """Schema -> Never, under a false condition; IdxExampleGen of the parameter `data` -> StatisticsGen."""
    schema = ImportSchemaGen(schema_file=str(SCHEMA_FILE))
    with conditional.Cond(schema.outputs["schema"].future()[0].uri == "nowhere"):
        never = ImportSchemaGen(schema_file="unused").with_id("Never")
    folder: Any = RuntimeParameter(name="data", ptype=str, default="/default/folder")
    example_gen = IdxExampleGen(folder, dataset="named", named_folder="/default/folder")
    statistics = StatisticsGen(example_gen.outputs["examples"])
    made = Pipeline(
        "small", "/unused", components=[schema, never, example_gen, statistics], enable_cache=True,
        beam_pipeline_args=["--direct_running_mode=in_memory", "--sdk_container_image=unused"],
    )  # fmt: skip
    return compiler.Compiler().compile(made)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> str:
    return sources.write_digits(tmp_path_factory.mktemp("data") / "digits").folder


class Container:
    """Runs nodes as a container would, in this process, against a SQLite file."""

    def __init__(self, pipeline: Any, folder: pathlib.Path, capture: pytest.CaptureFixture[str]) -> None:
        self._pipeline = pipeline
        self.root = str(folder / "root")
        self._capture = capture
        self.database = str(folder / "metadata.db")

    def arguments(self, names: str, run: str = "run-1") -> list[str]:
        sha256 = ir.write(self.root, self._pipeline)
        return ["--nodes", names, "--ir-sha256", sha256, "--run-id", run, "--tfx-root", self.root]

    def __call__(self, *arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            node.main(arguments)
        assert isinstance(ended.value.code, int)
        return ended.value.code, self._capture.readouterr().err

    def run(self, names: str, *more: str, run: str = "run-1") -> tuple[int, str]:
        return self(*self.arguments(names, run), *more)

    def store(self) -> Any:
        sqlite = metadata_store_pb2.SqliteMetadataSourceConfig(filename_uri=self.database)
        return mlmd.MetadataStore(metadata_store_pb2.ConnectionConfig(sqlite=sqlite))

    def executions(self) -> list[Any]:
        return self.store().get_executions()


@pytest.fixture
def container(
    compiled: Any,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Container]:
    for name in ("HOST", "PORT", "DATABASE", "USER", "PASSWORD"):
        monkeypatch.delenv(f"LATENTLINE_METADATA_{name}", raising=False)
    made = Container(compiled, tmp_path, capsys)
    monkeypatch.setenv("LATENTLINE_METADATA_SQLITE", made.database)
    handlers, level = logging.root.handlers[:], logging.root.level
    before = signal.getsignal(signal.SIGTERM)
    with warnings.catch_warnings():
        yield made
    logging.captureWarnings(False)
    signal.signal(signal.SIGTERM, before)
    logging.root.handlers[:], logging.root.level = handlers, level


def test_a_node_completes_then_is_cached_in_the_next_run(container: Container) -> None:
    code, log = container.run("ImportSchemaGen", run="run-1")
    assert (code, " complete node=ImportSchemaGen exit=0" in log) == (0, True)
    code, log = container.run("ImportSchemaGen", run="run-2")
    assert (code, " cached node=ImportSchemaGen exit=0" in log) == (0, True)


def test_a_node_that_has_succeeded_in_this_run_does_nothing_again(container: Container) -> None:
    container.run("ImportSchemaGen")
    code, _ = container.run("ImportSchemaGen")
    assert code == 0
    assert [execution.last_known_state for execution in container.executions()] == [State.COMPLETE]


def test_nodes_of_one_container_run_one_after_the_other(container: Container, digits: str) -> None:
    code, log = container.run("IdxExampleGen,StatisticsGen", "--parameter", f"data=STRING:{digits}")
    assert code == 0
    assert re.findall(r"(complete) node=(\w+)", log) == [
        ("complete", "IdxExampleGen"),
        ("complete", "StatisticsGen"),
    ]
    [examples] = container.store().get_artifacts_by_type("Examples")
    assert examples.custom_properties["dataset"].string_value == "digits"  # not the name of another folder


def test_after_a_failure_what_needs_it_is_left_out_and_the_rest_runs(
    container: Container, tmp_path: pathlib.Path
) -> None:
    missing = f"data=STRING:{tmp_path / 'missing'}"
    code, log = container.run("IdxExampleGen,StatisticsGen,ImportSchemaGen", "--parameter", missing)
    assert code == 1
    assert ' left out node=StatisticsGen exit=0 since="IdxExampleGen failed"' in log
    assert " complete node=ImportSchemaGen" in log


def test_a_failure_of_another_container_is_found_with_its_reason(
    container: Container, tmp_path: pathlib.Path
) -> None:
    container.run("IdxExampleGen", "--parameter", f"data=STRING:{tmp_path / 'missing'}")
    code, log = container.run("StatisticsGen")
    assert (code, " left out node=StatisticsGen" in log) == (0, True)
    code, log = container.run("StatisticsGen", "--verdict")
    assert code == 5
    assert re.search(r'failed node=run exit=5 error="IdxExampleGen failed: .*missing', log)


def test_the_verdict_of_a_run_without_failures_is_good(container: Container, digits: str) -> None:
    container.run("IdxExampleGen,StatisticsGen", "--parameter", f"data=STRING:{digits}")
    assert container.run("StatisticsGen", "--verdict")[0] == 0


def test_an_execution_that_was_left_running_is_taken_over(
    container: Container, digits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("--parameter", f"data=STRING:{digits}")
    command = [
        sys.executable, "-c",
        "import os, components.ingest.example_gen as e\n"
        "e.write_split = lambda *_: os._exit(9)\n"
        "from pipeline.execution.node import main\nmain()",
        *container.arguments("IdxExampleGen"), *given,
    ]  # fmt: skip
    assert subprocess.run(command, capture_output=True, check=False).returncode == 9
    assert [execution.last_known_state for execution in container.executions()] == [State.RUNNING]
    assert container.run("IdxExampleGen", *given)[0] == 0
    assert [execution.last_known_state for execution in container.executions()] == [State.COMPLETE]


@pytest.mark.parametrize("gate", [DataAnomaly, DataDrift])
def test_a_gate_that_stops_the_run_has_an_exit_code_of_its_own(
    container: Container, digits: str, monkeypatch: pytest.MonkeyPatch, gate: type[ValueError]
) -> None:
    def stop(*_: object) -> None:
        raise gate("the labels have changed")

    monkeypatch.setattr(components.ingest.example_gen, "write_split", stop)
    code, log = container.run("IdxExampleGen", "--parameter", f"data=STRING:{digits}")
    assert code == 6
    assert " stopped by a gate node=IdxExampleGen exit=6" in log
    assert code not in node.AGAIN


def test_a_process_that_was_killed_is_recorded_with_its_reason(container: Container) -> None:
    code, _ = container.run("ImportSchemaGen,Never", "--abandon", "the process was killed by SIGKILL")
    assert code == 0
    [execution] = container.executions()
    assert execution.last_known_state == State.FAILED
    assert execution.custom_properties["latentline_error"].string_value.endswith("SIGKILL")
    assert container.run("ImportSchemaGen")[0] == 0
    assert [execution.last_known_state for execution in container.executions()] == [State.COMPLETE]


def test_a_node_under_a_false_condition_exits_with_0_and_does_nothing(container: Container) -> None:
    container.run("ImportSchemaGen")
    code, log = container.run("Never")
    assert (code, " skipped node=Never" in log) == (0, True)
    assert len(container.executions()) == 1


def test_processes_of_their_own_share_a_sqlite_file_and_heed_a_false_condition(
    container: Container, warm: Warm
) -> None:
    last = ""
    for name in ("ImportSchemaGen", "Never"):
        environment = {"LATENTLINE_METADATA_SQLITE": container.database}
        done = warm.start(container.arguments(name), environment, module="pipeline.execution.node").fine()
        last = done.err.splitlines()[-1]
    assert " skipped node=Never exit=0" in last
    assert [execution.last_known_state for execution in container.executions()] == [State.COMPLETE]


def test_a_node_without_its_input_exits_with_3(container: Container) -> None:
    code, log = container.run("StatisticsGen")
    assert code == 3
    assert " input missing node=StatisticsGen" in log


def test_a_failed_component_exits_with_1_and_is_retried_in_the_same_execution(
    container: Container, digits: str, tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "appears-later"
    code, log = container.run("IdxExampleGen", "--parameter", f"data=STRING:{folder}")
    assert code == 1
    assert " ERROR failed node=IdxExampleGen exit=1 error=" in log
    assert [execution.last_known_state for execution in container.executions()] == [State.FAILED]
    folder.symlink_to(digits)
    code, _ = container.run("IdxExampleGen", "--parameter", f"data=STRING:{folder}")
    assert code == 0
    assert [execution.last_known_state for execution in container.executions()] == [State.COMPLETE]


def test_a_node_that_is_told_to_stop_records_it_and_can_be_retried(
    container: Container, digits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("--parameter", f"data=STRING:{digits}")
    with monkeypatch.context() as patch:
        patch.setattr(
            components.ingest.example_gen, "write_split", lambda *_: os.kill(os.getpid(), signal.SIGTERM)
        )
        code, log = container.run("IdxExampleGen", *given)
    assert code == 143
    assert "stopped (SIGTERM)" in log
    assert [execution.last_known_state for execution in container.executions()] == [State.FAILED]
    assert container.run("IdxExampleGen", *given)[0] == 0


@pytest.mark.parametrize(("left_with", "code"), [(143, 143), (0, 1), ("words", 1)])
def test_a_component_that_leaves_the_process_has_not_succeeded(
    container: Container, digits: str, monkeypatch: pytest.MonkeyPatch, left_with: object, code: int
) -> None:
    def leave(*_: object) -> None:
        raise SystemExit(left_with)

    monkeypatch.setattr(components.ingest.example_gen, "write_split", leave)
    assert container.run("IdxExampleGen", "--parameter", f"data=STRING:{digits}")[0] == code
    assert [execution.last_known_state for execution in container.executions()] == [State.FAILED]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--run-id": "{{$.pipeline_job_uuid}}"}, "--run-id still holds the placeholder"),
        ({"--run-id": "x{{workflow.uid}}"}, "--run-id still holds the placeholder"),
        ({"--run-id": ""}, "--run-id is empty"),
        ({"--tfx-root": "{{$.pipeline_root}}"}, "--tfx-root still holds the placeholder"),
        ({"--nodes": "Transform"}, "--nodes has Transform; the pipeline has IdxExampleGen, "),
        ({"--ir-sha256": "0" * 64}, "which the first task of the run writes"),
        ({"--ir-sha256": "abc"}, "must be 64 hexadecimal digits"),
    ],
)
def test_a_wrong_request_exits_with_2_and_says_why(
    container: Container, change: dict[str, str], words: str
) -> None:
    arguments = container.arguments("ImportSchemaGen")
    for option, value in change.items():
        arguments[arguments.index(option) + 1] = value
    code, log = container(*arguments)
    assert code == 2
    assert words in log
    assert not os.path.exists(container.database)


@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        ("data=STRING:{{$.inputs.parameters['data']}}", "still holds the placeholder"),
        ("data", "must be name=TYPE:value"),
        ("data=TEXT:x", "must be name=TYPE:value"),
        ("data=INT:five", "must be of type INT"),
        ("data=INT:5", "another type than the pipeline's"),
    ],
)
def test_a_wrong_parameter_exits_with_2(container: Container, parameter: str, words: str) -> None:
    code, log = container.run("IdxExampleGen", "--parameter", parameter)
    assert (code, words in log) == (2, True)


def test_a_value_may_hold_anything(container: Container) -> None:
    assert node.parsed("a=STRING:x=INT:1\n:") == ("a", "x=INT:1\n:")
    assert node.parsed("a=DOUBLE:1e-3") == ("a", 1e-3)


def test_a_parameter_that_is_not_given_keeps_its_default(compiled: Any) -> None:
    own = ir.cut(compiled, "IdxExampleGen")
    node.bind(own, "run-1", "/root", [])
    given = own.nodes[0].pipeline_node.parameters.parameters["input_base"].field_value.string_value
    assert given == "/default/folder"


def test_the_environment_must_name_a_metadata_store(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LATENTLINE_METADATA_SQLITE")
    monkeypatch.setenv("LATENTLINE_METADATA_HOST", "somewhere")
    code, log = container("--init-metadata")
    assert code == 2
    assert "LATENTLINE_METADATA_PASSWORD" in log


@pytest.mark.usefixtures("one_attempt")
def test_a_metadata_store_that_cannot_be_used_exits_with_4(
    container: Container, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATENTLINE_METADATA_SQLITE", str(tmp_path / "no-such-folder" / "metadata.db"))
    code, log = container("--init-metadata")
    assert code == 4
    assert "no-such-folder/metadata.db cannot be used" in log


@pytest.mark.usefixtures("one_attempt")
def test_a_metadata_server_that_does_not_run_is_told_with_its_address(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LATENTLINE_METADATA_SQLITE")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {"HOST": "127.0.0.1", "PORT": str(port), "DATABASE": "d", "USER": "u", "PASSWORD": "very-secret"}
    for name, value in given.items():
        monkeypatch.setenv(f"LATENTLINE_METADATA_{name}", value)
    code, log = container("--init-metadata")
    assert code == 4
    assert f"no metadata server answers at 127.0.0.1:{port}" in log
    assert "very-secret" not in log


def test_the_tables_are_made_once_and_found_made_after(container: Container) -> None:
    assert container("--init-metadata")[0] == 0
    assert container("--init-metadata")[0] == 0
    assert container.executions() == []


def test_every_event_is_a_line_with_time_level_and_facts(container: Container) -> None:
    _, log = container.run("ImportSchemaGen")
    started, ended = log.splitlines()
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    assert re.fullmatch(stamp + " INFO started node=ImportSchemaGen run=run-1", started)
    assert re.fullmatch(stamp + r" INFO complete node=ImportSchemaGen exit=0 seconds=\d+\.\d", ended)


def test_every_event_is_a_json_object_when_asked_for(container: Container, tmp_path: pathlib.Path) -> None:
    missing = f"data=STRING:{tmp_path / 'missing'}"
    _, log = container.run("IdxExampleGen", "--parameter", missing, "--log-format", "json")
    events = [json.loads(line) for line in log.splitlines()]
    assert events[0]["event"] == "started"
    assert events[-1]["event"] == "failed"
    assert events[-1]["exit"] == 1
    assert "Traceback" in events[-1]["traceback"]


def test_an_ir_is_written_under_its_digest_and_read_back(compiled: Any, tmp_path: pathlib.Path) -> None:
    sha256 = ir.write(str(tmp_path), compiled)
    assert ir.write(str(tmp_path), compiled) == sha256 == ir.digest(compiled)
    assert ir.read(str(tmp_path), sha256) == compiled
    assert ir.read(str(tmp_path), "0" * 64) is None
    assert [path.name for path in (tmp_path / ir.FOLDER).iterdir()] == [f"{sha256}.pb"]


@pytest.mark.parametrize("damage", [b"", b"changed", b"\xff" * 40])
def test_a_damaged_ir_exits_with_2(container: Container, damage: bytes) -> None:
    arguments = container.arguments("ImportSchemaGen")
    [path] = pathlib.Path(container.root, ir.FOLDER).iterdir()
    path.write_bytes(damage)
    code, log = container(*arguments)
    assert code == 2
    assert "it is damaged; remove it and retry the run" in log


def test_a_cut_keeps_the_driver_and_leaves_the_other_nodes_behind(compiled: Any) -> None:
    text = str(ir.cut(compiled, "IdxExampleGen"))
    assert "components.ingest.example_gen.Driver" in text
    assert "StatisticsGen" not in text.split("downstream_nodes")[0]
    with pytest.raises(KeyError):
        ir.cut(compiled, "Nobody")
