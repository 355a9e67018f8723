"""deploy.py against a server that takes what Kubeflow's OpenAPI description says, and fails on demand."""

import base64
import contextlib
import gzip
import json
import pathlib
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from kubeflow_server import OPENAPI, Command, Contract, Fault
from tallies import Section

REPOSITORY = pathlib.Path(__file__).parents[2]
CRON = "0 0 2 * * *"
NAME = "latentline"


@pytest.fixture
def pipeline_file(tmp_path: pathlib.Path) -> Callable[[str], str]:
    def write(text: str = "first", name: str = NAME) -> str:
        path = tmp_path / f"{text}.yaml"
        path.write_text(yaml.safe_dump({"pipelineInfo": {"name": name}, "x": text}))
        return str(path)

    return write


@pytest.fixture
def uploaded(deploy: Command, pipeline_file: Callable[..., str]) -> Command:
    deploy("upload", pipeline_file())
    return deploy


def test_the_server_of_these_tests_refuses_what_kubeflows_description_does_not_know() -> None:
    if not OPENAPI.is_file():
        pytest.skip("no OpenAPI description of Kubeflow here; KFP_OPENAPI names its file")
    contract = Contract(json.loads(OPENAPI.read_text()))
    path = "/apis/v2beta1/recurringruns"
    assert contract.violation("POST", path, {}, {"trigger": {"cron_schedule": {"cron": CRON}}}, False) == ""
    assert "unexpected" in contract.violation("POST", path, {}, {"crontab": CRON}, False)
    assert "is not of type" in contract.violation("POST", path, {}, {"max_concurrency": 1}, False)
    assert "is not one of" in contract.violation("POST", path, {}, {"mode": "ON"}, False)
    assert "no operation" in contract.violation("PUT", path, {}, None, False)
    assert "unknown query" in contract.violation("GET", path, {"size": "1"}, None, False)


def test_the_first_upload_makes_a_pipeline_and_each_a_version_named_after_its_content(
    deploy: Command, kubeflow: Any, pipeline_file: Callable[..., str]
) -> None:
    assert "made the pipeline" in deploy("upload", pipeline_file("first"))
    assert "uploaded version" in deploy("upload", pipeline_file("second"))
    [versions] = kubeflow.versions.values()
    assert len({version["name"] for version in versions}) == len(versions) == 3


def test_the_same_file_is_uploaded_once(
    uploaded: Command, kubeflow: Any, pipeline_file: Callable[..., str]
) -> None:
    before = list(kubeflow.changes)
    assert "there already" in uploaded("upload", pipeline_file())
    assert kubeflow.changes == before


def test_an_upload_that_was_cut_off_is_finished_by_the_next(
    deploy: Command, kubeflow: Any, pipeline_file: Callable[..., str]
) -> None:
    kubeflow.fault = Fault("POST .*/pipelines/upload$", cut=True, after=True)
    deploy.fails("upload", pipeline_file())
    assert "uploaded version" in deploy("upload", pipeline_file())


def test_a_dry_run_of_a_first_upload_sends_nothing(
    deploy: Command, kubeflow: Any, pipeline_file: Callable[..., str]
) -> None:
    told = deploy("upload", pipeline_file(), "--dry-run")
    assert "would send POST /pipelines/upload name=latentline with " in told
    assert kubeflow.changes == []


def test_a_run_is_of_the_newest_version_and_has_the_parameters_and_the_service_account(
    uploaded: Command, kubeflow: Any, pipeline_file: Callable[..., str]
) -> None:
    uploaded("upload", pipeline_file("second"))
    uploaded("run", "--parameter", "data=/latentline/data/other")
    [run] = kubeflow.runs
    [versions] = kubeflow.versions.values()
    assert run["pipeline_version_reference"]["pipeline_version_id"] == versions[-1]["pipeline_version_id"]
    assert run["runtime_config"] == {"parameters": {"data": "/latentline/data/other"}}
    assert run["service_account"] == "latentline"
    assert [experiment["display_name"] for experiment in kubeflow.experiments] == ["latentline"]


def test_a_schedule_runs_one_at_a_time_and_does_not_catch_up(uploaded: Command, kubeflow: Any) -> None:
    uploaded("schedule", "--cron", CRON)
    [schedule] = kubeflow.schedules
    assert schedule["trigger"] == {"cron_schedule": {"cron": CRON}}
    assert schedule["max_concurrency"] == "1"
    assert schedule["no_catchup"] is True
    assert schedule["pipeline_version_reference"].keys() == {"pipeline_id", "pipeline_version_id"}


def test_the_same_schedule_again_changes_nothing(uploaded: Command, kubeflow: Any) -> None:
    uploaded("schedule", "--cron", CRON)
    before = list(kubeflow.changes)
    assert "already runs" in uploaded("schedule", "--cron", CRON)
    assert kubeflow.changes == before


def test_a_new_schedule_is_there_before_the_old_one_goes(uploaded: Command, kubeflow: Any) -> None:
    uploaded("schedule", "--cron", CRON)
    kubeflow.changes.clear()
    uploaded("schedule", "--cron", "0 30 3 * * *")
    assert [change.split("/")[0].strip() for change in kubeflow.changes] == ["POST", "POST", "DELETE"]
    assert kubeflow.changes[0] == "POST /apis/v2beta1/recurringruns"
    [schedule] = kubeflow.schedules
    assert schedule["trigger"]["cron_schedule"]["cron"] == "0 30 3 * * *"


@pytest.mark.parametrize(
    "fault",
    [
        Fault("POST .*/recurringruns$", status=500),
        Fault("POST .*/recurringruns$", cut=True, after=True),
        Fault("POST .*/recurringruns$", silence=6.0, after=True),
        Fault("POST .*:disable", status=500),
        Fault("POST .*:disable", cut=True, after=True),
        Fault("DELETE .*/recurringruns/", status=500),
        Fault("DELETE .*/recurringruns/", cut=True, after=True),
    ],
    ids=lambda fault: f"{fault.pattern}-{fault.status or 'silence' if not fault.cut else 'cut'}",
)
def test_after_any_failure_a_schedule_stays_and_the_same_command_leaves_exactly_one(
    uploaded: Command, kubeflow: Any, fault: Fault
) -> None:
    uploaded("schedule", "--cron", CRON)
    kubeflow.fault = fault
    uploaded.fails("schedule", "--cron", "0 30 3 * * *")
    assert kubeflow.active()
    uploaded("schedule", "--cron", "0 30 3 * * *")
    [schedule] = kubeflow.schedules
    assert schedule["status"] == "ENABLED"
    assert schedule["trigger"]["cron_schedule"]["cron"] == "0 30 3 * * *"


def test_a_crash_between_the_new_schedule_and_the_removal_of_the_old_is_mended_by_the_next_call(
    uploaded: Command, kubeflow: Any, deploy_script: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploaded("schedule", "--cron", CRON)

    def killed(self: Any, known: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(deploy_script.Deployment, "_remove", killed)
        with pytest.raises(KeyboardInterrupt):
            uploaded("schedule", "--cron", "0 30 3 * * *")
    assert len(kubeflow.active()) == 2
    uploaded("schedule", "--cron", "0 30 3 * * *")
    assert [s["trigger"]["cron_schedule"]["cron"] for s in kubeflow.schedules] == ["0 30 3 * * *"]


def test_schedules_of_others_are_left_alone(uploaded: Command, kubeflow: Any) -> None:
    for name in ("another schedule", "latentline schedule of somebody", "latentline"):
        kubeflow._schedule({"display_name": name, "trigger": {"cron_schedule": {"cron": CRON}}})
    uploaded("schedule", "--cron", CRON)
    uploaded("delete")
    assert len(kubeflow.schedules) == 3


def test_pause_keeps_the_schedule_inactive_until_schedule_is_called(uploaded: Command, kubeflow: Any) -> None:
    uploaded("schedule", "--cron", CRON)
    assert "paused" in uploaded("pause")
    assert not kubeflow.active()
    assert "no active schedule" in uploaded("pause")
    uploaded("schedule", "--cron", CRON)
    assert len(kubeflow.active()) == len(kubeflow.schedules) == 1


def test_delete_leaves_nothing_and_may_be_repeated(
    uploaded: Command, kubeflow: Any, pipeline_file: Callable[..., str]
) -> None:
    for text in ("second", "third", "fourth"):
        uploaded("upload", pipeline_file(text))
    uploaded("schedule", "--cron", CRON)
    uploaded("delete")
    assert not kubeflow.pipelines
    assert not kubeflow.schedules
    assert "is not on the server" in uploaded("delete")


def test_status_tells_versions_schedule_and_runs(uploaded: Command, kubeflow: Any) -> None:
    uploaded("schedule", "--cron", CRON)
    uploaded("run")
    kubeflow.runs[0] |= {"state": "FAILED", "error": {"message": "Trainer.cvae exited with 1"}}
    told = uploaded("status")
    assert "2 version(s)" in told
    assert f"'{CRON}', active" in told
    assert "FAILED" in told
    assert "Trainer.cvae exited with 1" in told


@pytest.mark.parametrize("command", [["schedule", "--cron", CRON], ["run"], ["pause"], ["delete"]])
def test_a_dry_run_changes_nothing(uploaded: Command, kubeflow: Any, command: list[str]) -> None:
    uploaded("schedule", "--cron", "0 30 3 * * *")
    before = list(kubeflow.changes)
    assert "would send" in uploaded(*command, "--dry-run")
    assert kubeflow.changes == before


def test_a_dry_run_of_a_schedule_prints_the_body(uploaded: Command) -> None:
    told = uploaded("schedule", "--cron", CRON, "--dry-run")
    assert '"max_concurrency": "1"' in told
    assert f'"cron": "{CRON}"' in told


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("GET", status=401), "has expired"),
        (Fault("GET", status=403), "not allowed"),
        (Fault("POST", status=409), "name is taken"),
        (Fault("GET", status=500), "the server failed"),
        (Fault("GET", status=503, body="upstream connect error"), "the server failed"),
        (Fault("GET", status=302, body=""), "login page"),
        (Fault("GET", status=404, body="<html>no such page</html>"), "is not the API"),
        (Fault("GET", status=200, body="<html>Kubeflow</html>"), "is not the API"),
        (Fault("GET", silence=6.0), "no answer"),
        (Fault("GET", cut=True), "nothing answers"),
        (Fault("GET", status=400), "refuses"),
    ],
    ids=str,
)
@pytest.mark.section(Section.COMMANDS)
def test_failures_of_the_server_are_one_sentence(
    deploy: Command, kubeflow: Any, pipeline_file: Callable[..., str], fault: Fault, words: str
) -> None:
    kubeflow.fault = fault
    assert words in deploy.fails("upload", pipeline_file())


def test_a_missing_server_is_told(
    deploy: Command, pipeline_file: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
        assert "nothing answers" in deploy.fails("upload", pipeline_file())


@pytest.mark.parametrize("command", ["run", "schedule", "status"])
def test_what_was_never_uploaded_cannot_run(deploy: Command, command: str) -> None:
    assert "upload it first" in deploy.fails(command)


@pytest.mark.parametrize("cron", ["0 2 * * *", "0 0 2 * * * *", "0 0 2 * * $(reboot)"])
def test_a_cron_that_has_not_six_fields_is_refused(uploaded: Command, cron: str) -> None:
    assert "cron" in uploaded.fails("schedule", "--cron", cron)


def test_the_token_is_sent_and_never_shown(
    deploy: Command, kubeflow: Any, pipeline_file: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KF_PIPELINES_TOKEN", "very-secret")
    deploy("upload", pipeline_file())
    assert set(kubeflow.authorizations) == {"Bearer very-secret"}
    kubeflow.fault = Fault("GET", status=401)
    assert "very-secret" not in deploy.fails("status")


def test_a_file_of_another_pipeline_is_refused(deploy: Command, pipeline_file: Callable[..., str]) -> None:
    assert "add --name fashion" in deploy.fails("upload", pipeline_file(name="fashion"))


def test_a_file_that_is_no_pipeline_is_refused(deploy: Command, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("- a list")
    assert "not a compiled pipeline" in deploy.fails("upload", str(path))
    assert "cannot read" in deploy.fails("upload", str(tmp_path / "missing.yaml"))


def test_a_parameter_without_a_value_is_refused(uploaded: Command) -> None:
    assert "name=value" in uploaded.fails("run", "--parameter", "data")


@pytest.mark.parametrize("command", ["run", "schedule"])
def test_of_versions_made_within_one_second_the_one_named_after_its_content_is_the_newest(
    deploy: Command, kubeflow: Any, pipeline_file: Callable[..., str], command: str
) -> None:
    kubeflow.clock = "2026-11-21T00:00:00Z"
    deploy("upload", pipeline_file())
    [versions] = kubeflow.versions.values()
    for _ in range(2):
        versions.reverse()  # the server may give them in any order
        given = deploy(command, *(["--cron", CRON] if command == "schedule" else []))
        assert re.search(rf"{NAME}-[0-9a-f]{{12}}", given)


def test_two_contents_uploaded_within_one_second_are_chosen_by_name(
    deploy: Command, kubeflow: Any, pipeline_file: Callable[..., str]
) -> None:
    kubeflow.clock = "2026-11-21T00:00:00Z"
    deploy("upload", pipeline_file("first"))
    deploy("upload", pipeline_file("second"))
    [versions] = kubeflow.versions.values()
    error = deploy.fails("run")
    assert "were uploaded within one second; choose one with --version" in error
    assert f"of {versions[-1]['name']} started" in deploy("run", "--version", versions[-1]["name"])
    assert "there is no version 'other'" in deploy.fails("run", "--version", "other")


def test_status_says_which_tasks_of_a_run_failed_and_why(uploaded: Command, kubeflow: Any) -> None:
    uploaded("run")
    kubeflow.runs[0]["state"] = "FAILED"
    kubeflow.details = {
        "run_details": {
            "task_details": [
                {"display_name": "data", "state": "SUCCEEDED"},
                {
                    "display_name": "train cvae",
                    "state": "FAILED",
                    "error": {"message": "exit\x1b[31m code\n1"},
                },
                {"display_name": "root", "state": "FAILED"},
            ]
        }
    }
    said = uploaded("status").splitlines()
    assert said[-1].split() == ["train", "cvae:", "exit", "[31m", "code", "1"]


def test_status_of_a_run_that_failed_without_a_word_says_so(
    uploaded: Command, kubeflow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.kubeflow.deploy.shutil.which", lambda name: None)
    uploaded("run")
    kubeflow.runs[0]["state"] = "FAILED"
    assert "the server does not say why; the run's page" in uploaded("status")


@pytest.mark.parametrize("compressed", [False, True])
def test_the_messages_of_a_workflow_are_those_of_its_failed_pods(
    deploy_script: Any, compressed: bool
) -> None:
    nodes = {
        "1": {
            "type": "Pod",
            "name": "w.root.train-cvae(0).executor(0)",
            "phase": "Failed",
            "message": "exit 1",
        },
        "2": {"type": "Pod", "name": "w.root.data-driver", "phase": "Succeeded"},
        "3": {"type": "DAG", "name": "w.root", "phase": "Failed", "message": "child failed"},
    }
    packed = base64.b64encode(gzip.compress(json.dumps(nodes).encode())).decode()
    status: dict[str, Any] = {"compressedNodes": packed} if compressed else {"nodes": nodes}
    assert deploy_script.failed_nodes({"status": status}) == ["train-cvae: exit 1"]
    words = {"status": {"phase": "Error", "message": "workflow is longer than maximum allowed size"}}
    assert deploy_script.failed_nodes(words) == ["workflow is longer than maximum allowed size"]


DEEP = '{"pipelines":' + "[" * 100_000 + "]" * 100_000 + "}"


ODD = {
    "empty": "{}", "deep": DEEP, "a list": "[]", "a number": '{"pipeline_id": 3}',
    "an object": '{"pipeline_id": {}}', "null": "null", "not JSON": "?",
}  # fmt: skip


@pytest.mark.parametrize("body", list(ODD))
@pytest.mark.parametrize(
    "request_", ["GET .*/names", "POST .*/runs", "GET .*/experiments", "GET .*/versions"]
)
@pytest.mark.section(Section.COMMANDS)
def test_an_answer_of_another_form_is_told_in_one_line(
    uploaded: Command, kubeflow: Any, request_: str, body: str
) -> None:
    kubeflow.fault = Fault(request_, status=200, body=ODD[body])
    with contextlib.suppress(SystemExit):
        uploaded.main(["run", "--cluster", uploaded.cluster])
    error = uploaded.capture.readouterr().err
    assert "Traceback" not in error
    assert len(error.splitlines()) <= 1
    assert not error or error.startswith("deploy.py: error: ")


@pytest.mark.section(Section.COMMANDS)
def test_a_list_whose_page_token_repeats_ends(uploaded: Command, kubeflow: Any) -> None:
    original = kubeflow._page

    def endless(key: str, items: list[dict[str, Any]], query: dict[str, str]) -> tuple[int, Any]:
        status, answer = original(key, items, {**query, "page_token": ""})
        return status, {**answer, "next_page_token": "again"}

    kubeflow._page = endless
    assert "has no end: it gives the page again again" in uploaded.fails("run")


@pytest.mark.section(Section.COMMANDS)
def test_what_a_terminal_would_obey_is_taken_out_of_an_error(uploaded: Command, kubeflow: Any) -> None:
    message = json.dumps({"message": "\x1b]0;owned\x07 no\r\n such" + "x" * 5000})
    kubeflow.fault = Fault("POST .*/runs", status=400, body=message)
    error = uploaded.fails("run")
    assert error.rstrip("\n").isprintable()
    assert len(error) < 1000


@pytest.mark.section(Section.COMMANDS)
def test_a_reader_that_goes_away_stops_no_command(
    uploaded: Command, kubeflow: Any, pipeline_file: Callable[..., str]
) -> None:
    uploaded("schedule", "--cron", CRON)
    uploaded("upload", pipeline_file("second"))
    command = [
        sys.executable,
        "kubeflow/deploy.py",
        "schedule",
        "--cron",
        CRON,
        "--cluster",
        uploaded.cluster,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=REPOSITORY)
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 0
    assert len(kubeflow.schedules) == 1
