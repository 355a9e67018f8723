"""An API server of Kubeflow in memory: takes what Kubeflow's OpenAPI description says, fails on demand."""

import contextlib
import dataclasses
import http.server
import json
import os
import pathlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jsonschema
import pytest

REPOSITORY = pathlib.Path(__file__).parents[2]
OPENAPI = pathlib.Path(
    os.environ.get("KFP_OPENAPI")
    or REPOSITORY.parent / "shared" / "data" / "kfp" / "kfp_api_v2beta1.swagger.json"
)


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


@contextlib.contextmanager
def serving() -> Iterator[Kubeflow]:
    """A server that answers on this machine while the body runs."""
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
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


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
