"""deploy.py against a server that takes what Kubeflow's OpenAPI description says, and fails on demand."""

import base64
import contextlib
import dataclasses
import gzip
import http.server
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jsonschema
import pytest
import yaml

REPOSITORY = pathlib.Path(__file__).parents[2]
OPENAPI = pathlib.Path(
    os.environ.get("KFP_OPENAPI")
    or REPOSITORY.parent / "shared" / "data" / "kfp" / "kfp_api_v2beta1.swagger.json"
)
CRON = "0 0 2 * * *"
NAME = "latentline"


@dataclasses.dataclass
class Fault:
    """What goes wrong at the next request whose `METHOD path` matches: an HTTP status, silence, or a cut.

    With `after`, the request is carried out before.
    """

    pattern: str
    status: int = 0
    body: str = '{"code": 1, "message": "injected"}'
    silence: float = 0.0
    cut: bool = False
    after: bool = False


class Contract:
    """Kubeflow's OpenAPI description: refuses what the real server would refuse."""

    def __init__(self, description: dict[str, Any]) -> None:
        self._paths = description["paths"]
        self._definitions = {
            name: {"additionalProperties": False, **schema} if "properties" in schema else schema
            for name, schema in description["definitions"].items()
        }

    def violation(self, method: str, path: str, query: dict[str, str], body: Any, has_file: bool) -> str:
        """What is wrong with a request; empty for nothing."""
        operation = self._operation(method, path)
        if operation is None:
            return f"no operation {method} {path}"
        parameters = operation.get("parameters", [])
        known = {parameter["name"] for parameter in parameters if parameter["in"] == "query"}
        if unknown := set(query) - known:
            return f"unknown query {sorted(unknown)}"
        if has_file != any(parameter["in"] == "formData" for parameter in parameters):
            return "a file where none belongs, or none where one does"
        schemas = [parameter["schema"] for parameter in parameters if parameter["in"] == "body"]
        if body is not None and not schemas:
            return "a body where none belongs"
        for schema in schemas:
            try:
                jsonschema.Draft4Validator({**schema, "definitions": self._definitions}).validate(body)
            except jsonschema.ValidationError as error:
                return error.message
        return ""

    def _operation(self, method: str, path: str) -> Any:
        exact = self._paths.get(path, {}).get(method.lower())
        for template, operations in self._paths.items():
            pattern = re.sub(r"\\\{[^}]*\\\}", "[^/:]+", re.escape(template))
            if exact is None and re.fullmatch(pattern, path) and method.lower() in operations:
                return operations[method.lower()]
        return exact


class Kubeflow:
    """The server: pipelines, versions, experiments, schedules and runs in memory."""

    def __init__(self) -> None:
        self.pipelines: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, list[dict[str, Any]]] = {}
        self.experiments: list[dict[str, Any]] = []
        self.schedules: list[dict[str, Any]] = []
        self.runs: list[dict[str, Any]] = []
        self.violations: list[str] = []
        self.changes: list[str] = []
        self.authorizations: list[str] = []
        self.fault: Fault | None = None
        self.url = ""
        self.page = 2
        self.details: dict[str, Any] = {}
        self.clock: str | None = None
        self.contract = Contract(json.loads(OPENAPI.read_text())) if OPENAPI.is_file() else None
        self._count = 0

    def active(self) -> list[dict[str, Any]]:
        return [schedule for schedule in self.schedules if schedule["status"] == "ENABLED"]

    def answer(
        self, method: str, path: str, query: dict[str, str], body: Any, has_file: bool
    ) -> tuple[int, Any]:
        if self.contract and (wrong := self.contract.violation(method, path, query, body, has_file)):
            self.violations.append(wrong)
            return 400, {"code": 3, "message": wrong}
        if method != "GET":
            self.changes.append(f"{method} {path}")
        path = path.removeprefix("/apis/v2beta1")
        handlers: list[tuple[str, str, Callable[..., tuple[int, Any]]]] = [
            ("GET", "/pipelines/names/([^/]+)", self._by_name),
            ("GET", "/pipelines/([^/]+)/versions",
             lambda pipeline: self._page("pipeline_versions", self.versions[pipeline], query)),
            ("POST", "/pipelines/upload", lambda: self._upload(query["name"])),
            ("POST", "/pipelines/upload_version", lambda: self._version(query["pipelineid"], query["name"])),
            ("DELETE", "/pipelines/([^/]+)/versions/([^/]+)", self._delete_version),
            ("DELETE", "/pipelines/([^/]+)", self._delete_pipeline),
            ("GET", "/experiments", lambda: self._page("experiments", self.experiments, query)),
            ("POST", "/experiments", lambda: self._add(self.experiments, "experiment_id", body)),
            ("GET", "/recurringruns", lambda: self._page("recurringRuns", self.schedules, query)),
            ("POST", "/recurringruns", lambda: self._schedule(body)),
            ("POST", "/recurringruns/([^/:]+):(disable|enable)", self._switch),
            ("DELETE", "/recurringruns/([^/:]+)", self._delete_schedule),
            ("GET", "/runs/([^/:]+)", self._run),
            ("GET", "/runs", lambda: self._page("runs", self.runs, query)),
            ("POST", "/runs", lambda: self._add(self.runs, "run_id", {**body, "state": "PENDING"})),
        ]  # fmt: skip
        for verb, pattern, handler in handlers:
            match = re.fullmatch(pattern, path)
            if verb == method and match:
                return handler(*match.groups())
        return 404, {"code": 5, "message": f"no {path}"}

    def _id(self, kind: str) -> str:
        self._count += 1
        return f"{kind}-{self._count}"

    def _page(self, key: str, items: list[dict[str, Any]], query: dict[str, str]) -> tuple[int, Any]:
        items = list(reversed(items)) if query.get("sort_by", "").endswith("desc") else items
        start = int(query.get("page_token") or 0)
        end = start + self.page
        token = {"next_page_token": str(end)} if end < len(items) else {}
        return 200, {key: items[start:end], **token}

    def _add(self, items: list[dict[str, Any]], key: str, body: dict[str, Any]) -> tuple[int, Any]:
        identity = self._id(key)
        made = self.clock or f"2026-11-21T00:00:{self._count:02}Z"
        items.append({**body, key: identity, "created_at": made})
        return 200, items[-1]

    def _run(self, identity: str) -> tuple[int, Any]:
        [run] = [run for run in self.runs if run["run_id"] == identity]
        return 200, {**run, **self.details}

    def _by_name(self, name: str) -> tuple[int, Any]:
        found = [pipeline for pipeline in self.pipelines.values() if pipeline["name"] == name]
        return (200, found[0]) if found else (404, {"code": 5, "message": f"Pipeline {name} not found"})

    def _upload(self, name: str) -> tuple[int, Any]:
        if self._by_name(name)[0] == 200:
            return 409, {"error_message": f"The name {name} already exists", "error_details": ""}
        identity = self._id("pipeline")
        self.pipelines[identity] = {"pipeline_id": identity, "name": name, "display_name": name}
        self.versions[identity] = []
        self._version(identity, name)
        return 200, self.pipelines[identity]

    def _version(self, pipeline: str, name: str) -> tuple[int, Any]:
        if any(version["name"] == name for version in self.versions[pipeline]):
            return 409, {"error_message": f"The version {name} already exists", "error_details": ""}
        body = {"pipeline_id": pipeline, "name": name, "display_name": name}
        return self._add(self.versions[pipeline], "pipeline_version_id", body)

    def _delete_version(self, pipeline: str, version: str) -> tuple[int, Any]:
        kept = [known for known in self.versions[pipeline] if known["pipeline_version_id"] != version]
        self.versions[pipeline] = kept
        return 200, {}

    def _delete_pipeline(self, pipeline: str) -> tuple[int, Any]:
        if self.versions[pipeline]:
            return 400, {"code": 9, "message": "the pipeline has versions"}
        del self.pipelines[pipeline]
        return 200, {}

    def _schedule(self, body: dict[str, Any]) -> tuple[int, Any]:
        if len(body["trigger"]["cron_schedule"]["cron"].split()) != 6:
            return 400, {"code": 3, "message": "cron needs six fields"}
        return self._add(self.schedules, "recurring_run_id", {**body, "status": "ENABLED"})

    def _switch(self, identity: str, how: str) -> tuple[int, Any]:
        for schedule in self.schedules:
            if schedule["recurring_run_id"] == identity:
                schedule["status"] = f"{how}d".upper()
                schedule["mode"] = how.upper()
                return 200, {}
        return 404, {"code": 5, "message": f"no schedule {identity}"}

    def _delete_schedule(self, identity: str) -> tuple[int, Any]:
        self.schedules = [known for known in self.schedules if known["recurring_run_id"] != identity]
        return 200, {}


@pytest.fixture
def kubeflow() -> Iterator[Any]:
    state = Kubeflow()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            has_file = "multipart" in self.headers.get("Content-Type", "")
            body = json.loads(content) if content and not has_file else None
            state.authorizations.append(self.headers.get("Authorization", ""))
            fault = state.fault
            if fault and re.search(fault.pattern, f"{self.command} {parts.path}"):
                state.fault = None
                if fault.after:
                    state.answer(self.command, parts.path, query, body, has_file)
                if fault.cut:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                time.sleep(fault.silence)
                if fault.status:
                    self.reply(fault.status, fault.body)
                return
            status, answer = state.answer(self.command, parts.path, query, body, has_file)
            self.reply(status, json.dumps(answer))

        do_POST = do_DELETE = do_GET  # noqa: N815 names that http.server looks for

        def reply(self, status: int, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *values: Any) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield state
    server.shutdown()
    server.server_close()
    assert not state.violations


@dataclasses.dataclass
class Command:
    """deploy.py, as a user calls it."""

    main: Callable[[list[str]], None]
    cluster: str
    capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> str:
        self.main([*arguments, "--cluster", self.cluster])
        return self.capture.readouterr().out

    def fails(self, *arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            self.main([*arguments, "--cluster", self.cluster])
        assert ended.value.code in (1, 2)
        error = self.capture.readouterr().err
        assert len(error.splitlines()) == 1
        assert error.startswith("deploy.py: error: ")
        return error


@pytest.fixture
def deploy(
    kubeflow: Any,
    deploy_script: Any,
    cluster_values: dict[str, Any],
    write_cluster: Callable[[dict[str, Any]], str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Command:
    for variable in ("KF_PIPELINES_ENDPOINT", "KF_PIPELINES_TOKEN", "KF_PIPELINES_COOKIES"):
        monkeypatch.delenv(variable, raising=False)
    cluster_values["endpoint"] = {"url": kubeflow.url, "timeout": 4}  # more than a busy machine needs
    return Command(deploy_script.main, write_cluster(cluster_values), capsys)


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


def test_a_list_whose_page_token_repeats_ends(uploaded: Command, kubeflow: Any) -> None:
    original = kubeflow._page

    def endless(key: str, items: list[dict[str, Any]], query: dict[str, str]) -> tuple[int, Any]:
        status, answer = original(key, items, {**query, "page_token": ""})
        return status, {**answer, "next_page_token": "again"}

    kubeflow._page = endless
    assert "has no end: it gives the page again again" in uploaded.fails("run")


def test_what_a_terminal_would_obey_is_taken_out_of_an_error(uploaded: Command, kubeflow: Any) -> None:
    message = json.dumps({"message": "\x1b]0;owned\x07 no\r\n such" + "x" * 5000})
    kubeflow.fault = Fault("POST .*/runs", status=400, body=message)
    error = uploaded.fails("run")
    assert error.rstrip("\n").isprintable()
    assert len(error) < 1000


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
