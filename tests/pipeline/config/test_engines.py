"""What Beam runs on is chosen by name, and checked before anything runs."""

import contextlib
import pathlib
import socket
import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest

from pipeline.cli import parser
from pipeline.commands import run
from pipeline.config import engines
from pipeline.config.cluster import Cluster
from pipeline.config.engines import EVERY, LOCAL_BEAM
from pipeline.config.errors import SettingsError
from pipeline.config.settings import Settings
from pipeline.execution.plan import Plan

FLINK = ("--runner=FlinkRunner", "--job_endpoint=localhost:8099", "--environment_type=LOOPBACK")
CLUSTER = pathlib.Path(__file__).parents[3] / "kubeflow" / "cluster.yaml"


def test_without_a_choice_everything_runs_in_the_component_s_process() -> None:
    assert Settings(variants=("mlp",)).beam_arguments == {EVERY: LOCAL_BEAM}


def test_a_component_has_the_engine_that_names_it_and_the_default_otherwise() -> None:
    found = Settings(
        engines={"flink": FLINK},
        beam={"default": "direct-3", "Transform": "flink", "Evaluator": ["--direct_running_mode=in_memory"]},  # type: ignore[dict-item]
    ).beam_arguments
    assert found["Transform"] == FLINK
    assert found["Evaluator"] == LOCAL_BEAM
    assert {"--direct_running_mode=multi_processing", "--direct_num_workers=3"} < set(found[EVERY])


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"beam": {"default": "flnk"}}, "beam.default: no engine 'flnk'; choose direct or direct-N"),
        ({"beam": {"default": "direct-0"}}, "no engine 'direct-0'"),
        (
            {"beam": {"Transfrom": "direct"}},
            "beam.Transfrom: no such component of Beam; did you mean Transform",
        ),
        ({"beam": {"Trainer": "direct"}}, "beam.Trainer: no such component"),
        ({"engines": {"direct": FLINK}}, "engines.direct: .* built in; choose another name"),
        ({"engines": {"direct-2": FLINK}}, "engines.direct-2: .* built in"),
        ({"engines": {"f": ["--runner=FlinkRuner"]}}, "engines.f: no runner 'FlinkRuner'; choose from"),
        (
            {"engines": {"f": ["--paralelism=2"]}},
            "engines.f: .* no option --paralelism; did you mean --parallelism",
        ),
        ({"engines": {"f": ["--direct_num=2"]}}, "no option --direct_num"),
        (
            {"engines": {"f": ["--direct_num_workers=two"]}},
            "engines.f: argument --direct_num_workers: invalid int",
        ),
        ({"engines": {"f": ["--direct_running_mode=fast"]}}, "invalid choice: 'fast'"),
        ({"engines": {"f": ["--flink_master"]}}, "expected one argument"),
        ({"engines": {"f": ["fast"]}}, "expected arguments such as --name=value, got 'fast'"),
        (
            {"engines": {"f": ["--runner=FlinkRunner"]}},
            "FlinkRunner needs --job_endpoint=HOST:PORT .* or --flink_job",
        ),
        ({"engines": {"f": ["--runner=PortableRunner"]}}, "PortableRunner needs --job_endpoint=HOST:PORT"),
        ({"engines": {"f": ["--runner=DataflowRunner", "--project=p"]}}, "needs --region, --temp_location"),
        (
            {"engines": {"f": [*FLINK, "--environment_type=EXTERN"]}},
            "no environment_type 'EXTERN'; choose from",
        ),
        ({"engines": {"f": [*FLINK, "--environment_type=EXTERNAL"]}}, "needs --environment_config=HOST:PORT"),
        (
            {"engines": {"f": [*FLINK, "--s3_secret_access_key=x"]}},
            "would be kept in the journal; give secrets",
        ),
        (
            {"beam": {"Transform": ["--rnner=x"]}},
            "beam.Transform: .* no option --rnner; did you mean --runner",
        ),
    ],
)
def test_a_mistake_is_refused_in_one_sentence_that_says_where(chosen: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        Settings(**chosen)
    assert "\n" not in str(caught.value)


def test_an_option_that_only_a_job_server_may_know_is_left_to_it() -> None:
    Settings(engines={"flink": (*FLINK, "--number_of_execution_retries=3")})
    with pytest.raises(SettingsError, match="no option --number_of_execution_retries"):
        Settings(engines={"own": ("--number_of_execution_retries=3",)})


def test_the_option_beam_sets_the_default_and_keeps_what_the_file_says_of_components(
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("beam: {default: direct, Evaluator: direct-2}\n")
    options = parser().parse_args(["run", "--settings", str(path), "--beam", "direct-4"])
    assert run.settings_of(options).beam == {"default": "direct-4", "Evaluator": "direct-2"}
    assert "--beam" in run.arguments_of(options)


def test_settings_win_over_the_cluster_file_and_it_holds_where_they_choose_nothing() -> None:
    cluster = Cluster.from_file(str(CLUSTER))
    assert Plan.of(Settings(variants=("mlp",)), cluster).beam == engines.resolved(cluster.beam, {})
    chosen = Settings(variants=("mlp",), engines={"flink": FLINK}, beam={"Transform": "flink"})
    plan = Plan.from_text(Plan.of(chosen, cluster).text())
    assert [*plan.beam["Transform"]] == [*FLINK]
    assert [*plan.beam[EVERY]] == [*LOCAL_BEAM]


@contextlib.contextmanager
def listening(answer: bytes | None) -> Iterator[str]:
    """A server that says something, or nothing, to whoever connects."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                connection, _ = server.accept()
                with connection:
                    connection.sendall(answer or b"")
                    connection.recv(4096)
                    done.wait(5)

        done = threading.Event()
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        done.set()


def portable(endpoint: str) -> dict[str, engines.Arguments]:
    return {EVERY: ("--runner=PortableRunner", f"--job_endpoint={endpoint}")}


def test_a_grpc_server_is_reachable() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        engines.check_reachable(portable(f"127.0.0.1:{port}"))
    finally:
        server.stop(0).wait()


@pytest.mark.parametrize(
    ("answer", "words"), [(None, "no answer within 1 s"), (b"HTTP/1.1 400\r\n\r\n", "another server")]
)
def test_what_is_no_job_server_is_refused_without_waiting_for_it(answer: bytes | None, words: str) -> None:
    with listening(answer) as endpoint, pytest.raises(SettingsError, match=words) as caught:
        engines.check_reachable(portable(endpoint))
    assert endpoint in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--runner=PortableRunner", "--job_endpoint=127.0.0.1:{closed}"), "refused.*correct --job_endpoint"),
        (("--runner=PortableRunner", "--job_endpoint=nowhere"), "that is no HOST:PORT"),
        (("--runner=PortableRunner", "--job_endpoint", "127.0.0.1:99999"), "that is no HOST:PORT"),
        (
            ("--runner=FlinkRunner", "--flink_job_server_jar=/no/such.jar"),
            "there is no job server's jar /no/such",
        ),
    ],
)
def test_an_engine_that_is_not_there_is_refused_in_one_sentence(
    arguments: tuple[str, ...], words: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = taken.getsockname()[1]
    given = tuple(argument.format(closed=closed) for argument in arguments)
    with pytest.raises(SettingsError, match=words) as caught:
        engines.check_reachable({EVERY: given})
    assert "\n" not in str(caught.value)


def test_a_flink_master_that_does_not_listen_is_refused(tmp_path: pathlib.Path) -> None:
    jar = tmp_path / "server.jar"
    jar.touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = taken.getsockname()[1]
    arguments = (
        "--runner=FlinkRunner",
        f"--flink_job_server_jar={jar}",
        f"--flink_master=127.0.0.1:{closed}",
    )
    with pytest.raises(SettingsError, match=r"no Flink answers at|needs Java"):
        engines.check_reachable({EVERY: arguments})
