"""Puts a compiled pipeline on Kubeflow Pipelines v2 and keeps its schedule.

    python kubeflow/deploy.py upload pipeline.yaml
    python kubeflow/deploy.py run --parameter data=/latentline/data/fashion
    python kubeflow/deploy.py schedule --cron "0 0 2 * * *"
    python kubeflow/deploy.py status | pause | delete

Every command may be repeated: what is there already is kept. With --dry-run the server is asked what there
is, and what would be sent to change it is printed instead. Exits 0, 1 (the server), or 2 (the request).
"""

import argparse
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import requests
import yaml

from pipeline.config.cluster import Cluster, Endpoint, check_cron
from pipeline.config.errors import SettingsError

CLUSTER_FILE = str(pathlib.Path(__file__).parents[2] / "kubeflow" / "cluster.yaml")
PAGE = 100
RUNS_SHOWN = 5


class DeployError(RuntimeError):
    """The server did not do what was asked; the message says why and what to do."""


class NotFound(DeployError):
    """The server does not have what was asked for."""


class Transport(Protocol):
    """Sends one request to the API and gives its JSON answer."""

    def __call__(
        self, method: str, path: str, query: Mapping[str, Any], body: Any = None, file: str = ""
    ) -> Any:
        """path: below /apis/v2beta1; body: for JSON; file: path of one to upload. Raises DeployError."""
        ...


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; see the module for the exit codes."""
    options = _parser().parse_args(arguments)
    try:
        cluster = Cluster.from_file(options.cluster)
        endpoint = from_environment(cluster.endpoint, os.environ)
        transport: Transport = Http(endpoint, credentials(endpoint, os.environ))
        say: Callable[[str], None] = print
        if options.dry_run:
            transport, say = DryRun(transport, print), _in_a_dry_run
        options.command(Deployment(transport, cluster, options.name, say), options)
    except SettingsError as error:
        _fail(error, 2)
    except DeployError as error:
        _fail(error, 1)


class Deployment:
    """A pipeline on the server, by name. What happens is told to `say`, a line at a time."""

    def __init__(self, transport: Transport, cluster: Cluster, name: str, say: Callable[[str], None]) -> None:
        self._send = transport
        self.cluster = cluster
        self._name = name
        self._say = say
        self._namespace = {"namespace": cluster.endpoint.namespace} if cluster.endpoint.namespace else {}

    def upload(self, path: str) -> None:
        """Make the file's pipeline the newest version; the version is named after the file's content.

        The server names a new pipeline's first version after the pipeline, which says nothing about its
        content; the version that does say it follows, so that a repeated upload finds it.
        """
        version = f"{self._name}-{_digest(path)}"
        try:
            pipeline = self._pipeline()
        except NotFound:
            query = {"name": self._name, **self._namespace}
            pipeline = self._send("POST", "/pipelines/upload", query, file=path)
            self._say(f"{self._name}: made the pipeline {pipeline['pipeline_id']}")
        if any(_title(known) == version for known in self._versions(pipeline)):
            self._say(f"{self._name}: version {version} is there already")
            return
        query = {"name": version, "pipelineid": pipeline["pipeline_id"]}
        self._send("POST", "/pipelines/upload_version", query, file=path)
        self._say(f"{self._name}: uploaded version {version}")

    def run(self, parameters: Mapping[str, Any]) -> None:
        """Start the newest version now."""
        version = self._newest()
        body = {"display_name": f"{self._name} now", **self._work(version, parameters)}
        run = self._send("POST", "/runs", {}, body)
        self._say(f"{self._name}: run {run['run_id']} of {_title(version)} started")

    def schedule(self, cron: str, parameters: Mapping[str, Any]) -> None:
        """Run the newest version at the times of `cron`, and nothing else of this pipeline at any time.

        The new schedule is there before an old one goes, so that a failure in between leaves two for a
        while, never none; the same command, given again, ends that.
        """
        version = self._newest()
        wanted = {
            "display_name": self._schedule_name,
            **self._work(version, parameters),
            "trigger": {"cron_schedule": {"cron": cron}},
            "max_concurrency": "1",
            "no_catchup": True,
            "mode": "ENABLE",
        }
        schedules = list(self._schedules())
        kept = next((known for known in schedules if _active(known) and _same(known, wanted)), None)
        if kept:
            self._say(f"{self._name}: already runs {_title(version)} at {cron!r}")
        else:
            kept = dict(self._send("POST", "/recurringruns", {}, wanted))
            self._say(f"{self._name}: runs {_title(version)} at {cron!r} from now on")
        for old in schedules:
            if old["recurring_run_id"] != kept["recurring_run_id"]:
                self._remove(old)

    def pause(self) -> None:
        """Stop the schedule until `schedule` is called again."""
        active = [known for known in self._schedules() if _active(known)]
        for known in active:
            self._send("POST", f"/recurringruns/{known['recurring_run_id']}:disable", {})
            self._say(f"{self._name}: schedule {_cron(known)!r} paused; `deploy.py schedule` starts it again")
        if not active:
            self._say(f"{self._name}: has no active schedule")

    def status(self) -> None:
        """Tell the versions, the schedule and the last runs."""
        pipeline = self._pipeline()
        versions = self._versions(pipeline)
        self._say(f"{self._name}: pipeline {pipeline['pipeline_id']}, {len(versions)} version(s)")
        for version in versions[:1]:
            self._say(f"  newest    {_title(version)}, uploaded {version.get('created_at', 'unknown')}")
        for known in self._schedules():
            state = "active" if _active(known) else "paused"
            self._say(f"  schedule  {_cron(known)!r}, {state}, since {known.get('created_at', 'unknown')}")
        query = {"page_size": PAGE, "sort_by": "created_at desc", **self._namespace}
        runs = self._send("GET", "/runs", query).get("runs", [])
        own = [run for run in runs if _reference(run).get("pipeline_id") == pipeline["pipeline_id"]]
        for run in own[:RUNS_SHOWN]:
            why = run.get("error", {}).get("message", "")
            self._say(
                f"  run       {run.get('created_at', '')}  {run.get('state', 'PENDING'):<9} {run['run_id']}"
                f"  {why}".rstrip()
            )

    def delete(self) -> None:
        """Take the schedules and the pipeline off the server; runs, models and metadata stay."""
        for known in list(self._schedules()):
            self._remove(known)
        try:
            pipeline = self._pipeline()
        except NotFound:
            self._say(f"{self._name}: is not on the server")
            return
        for version in self._versions(pipeline):
            self._send(
                "DELETE",
                f"/pipelines/{pipeline['pipeline_id']}/versions/{version['pipeline_version_id']}",
                {},
            )
        self._send("DELETE", f"/pipelines/{pipeline['pipeline_id']}", {})
        self._say(f"{self._name}: deleted; its runs, models and metadata stay")

    @property
    def _schedule_name(self) -> str:
        return f"{self._name} schedule"

    def _pipeline(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self._send("GET", f"/pipelines/names/{self._name}", self._namespace)
        except NotFound as error:
            raise NotFound(f"there is no pipeline {self._name!r} on the server; upload it first") from error
        return found

    def _versions(self, pipeline: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Newest first."""
        path = f"/pipelines/{pipeline['pipeline_id']}/versions"
        return list(self._all(path, "pipeline_versions", {"sort_by": "created_at desc"}))

    def _newest(self) -> dict[str, Any]:
        versions = self._versions(self._pipeline())
        if not versions:
            raise DeployError(f"the pipeline {self._name!r} has no version on the server; upload it again")
        return versions[0]

    def _schedules(self) -> Iterator[dict[str, Any]]:
        for known in self._all("/recurringruns", "recurringRuns", self._namespace):
            if known.get("display_name") == self._schedule_name:
                yield known

    def _remove(self, known: Mapping[str, Any]) -> None:
        """Disabled first: what cannot be deleted at least does not run."""
        path = f"/recurringruns/{known['recurring_run_id']}"
        if _active(known):
            self._send("POST", f"{path}:disable", {})
        self._send("DELETE", path, {})
        self._say(
            f"{self._name}: removed the schedule {_cron(known)!r} of {known.get('created_at', 'unknown')}"
        )

    def _work(self, version: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
        """What a run and a schedule have in common."""
        reference = {key: version[key] for key in ("pipeline_id", "pipeline_version_id")}
        work = {
            "experiment_id": self._experiment(),
            "pipeline_version_reference": reference,
            "runtime_config": {"parameters": dict(parameters)},
        }
        account = self.cluster.service_account
        return {**work, "service_account": account} if account else work

    def _experiment(self) -> str:
        name = self.cluster.experiment
        for known in self._all("/experiments", "experiments", self._namespace):
            if known.get("display_name") == name and known.get("storage_state") != "ARCHIVED":
                return str(known["experiment_id"])
        made = self._send("POST", "/experiments", {}, {"display_name": name, **self._namespace})
        return str(made["experiment_id"])

    def _all(self, path: str, key: str, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The items of every page of a list."""
        token = ""
        while True:
            page = self._send("GET", path, {**query, "page_size": PAGE, "page_token": token})
            yield from page.get(key, [])
            token = page.get("next_page_token", "")
            if not token:
                return


@dataclasses.dataclass(frozen=True)
class Credentials:
    """What is sent to prove who asks; never printed."""

    headers: Mapping[str, str] = dataclasses.field(repr=False)


class Http:
    """Requests over HTTP, whose failures are sentences."""

    def __init__(self, endpoint: Endpoint, credentials: Credentials) -> None:
        self._endpoint = endpoint
        self._session = requests.Session()
        self._session.headers.update(credentials.headers)
        self._session.verify = endpoint.ca_certificate or True

    def __call__(
        self, method: str, path: str, query: Mapping[str, Any], body: Any = None, file: str = ""
    ) -> Any:
        """See Transport."""
        url = f"{self._endpoint.url.rstrip('/')}/apis/v2beta1{path}"
        try:
            with _opened(file) as files:
                answer = self._session.request(
                    method, url, params=query, json=body, files=files, timeout=self._endpoint.timeout,
                    allow_redirects=False,
                )  # fmt: skip
        except requests.Timeout as error:
            raise DeployError(
                f"{self._endpoint.url} gave no answer to {method} {path} within {self._endpoint.timeout:g} s "
                "and may have done it nevertheless; look with `deploy.py status`, then give the command again"
            ) from error
        except requests.exceptions.SSLError as error:
            raise DeployError(
                f"the certificate of {self._endpoint.url} is not trusted; name its authority in "
                "endpoint.ca_certificate"
            ) from error
        except requests.RequestException as error:
            raise DeployError(
                f"nothing answers at {self._endpoint.url}; check endpoint.url (or KF_PIPELINES_ENDPOINT), "
                "and that the port-forward runs"
            ) from error
        return _checked(answer, method, path, self._endpoint)


class DryRun:
    """Passes questions on to the server, and prints what would change something there."""

    def __init__(self, transport: Transport, say: Callable[[str], None]) -> None:
        self._transport = transport
        self._say = say

    def __call__(
        self, method: str, path: str, query: Mapping[str, Any], body: Any = None, file: str = ""
    ) -> Any:
        """See Transport. What would be made has its kind in brackets for an id."""
        if method == "GET" and "<" in path:
            return {}  # of something that was not made
        if method == "GET":
            return self._transport(method, path, query)
        asked = "".join(f" {key}={value}" for key, value in query.items())
        self._say(f"would send {method} {path}{asked}{f' with {file}' if file else ''}")
        if body is not None:
            self._say(json.dumps(body, indent=2))
        ids = ("pipeline_id", "run_id", "experiment_id", "recurring_run_id")
        return {**(body or {}), **{name: f"<{name}>" for name in ids}}


def from_environment(endpoint: Endpoint, environment: Mapping[str, str]) -> Endpoint:
    """The endpoint, with the URL that KF_PIPELINES_ENDPOINT names if it is set. Raises SettingsError."""
    url = environment.get("KF_PIPELINES_ENDPOINT")
    try:
        return dataclasses.replace(endpoint, url=url) if url else endpoint
    except ValueError as error:
        raise SettingsError(f"KF_PIPELINES_ENDPOINT: {error}") from error


def credentials(endpoint: Endpoint, environment: Mapping[str, str]) -> Credentials:
    """A token or a cookie, from where the endpoint says. Raises SettingsError for an unreadable file."""
    headers = {}
    token = environment.get("KF_PIPELINES_TOKEN", "")
    if not token and endpoint.token_file:
        try:
            token = pathlib.Path(endpoint.token_file).read_text().strip()
        except OSError as error:
            raise SettingsError(
                f"endpoint.token_file {endpoint.token_file} cannot be read: {error.strerror}"
            ) from error
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if cookies := environment.get(endpoint.cookies_variable):
        headers["Cookie"] = cookies
    return Credentials(headers)


def _checked(answer: requests.Response, method: str, path: str, endpoint: Endpoint) -> Any:
    """The JSON of a good answer. Raises DeployError."""
    said = _message(answer)
    where = f"namespace {endpoint.namespace!r}" if endpoint.namespace else "the server's namespace"
    sentences = {
        401: "the server does not accept the token or cookie (401): it is missing or has expired; renew "
        f"KF_PIPELINES_TOKEN, endpoint.token_file or {endpoint.cookies_variable}",
        403: f"you are not allowed to do this in {where} (403): {said}; ask for the role kubeflow-edit there",
        409: f"the name is taken (409): {said}; choose another --name, or delete what has it",
    }
    code = answer.status_code
    if code in sentences:
        raise DeployError(sentences[code])
    if code in (301, 302, 303, 307, 308):
        raise DeployError(
            f"{endpoint.url} sends to a login page; set {endpoint.cookies_variable} to the cookie of your "
            "session, or KF_PIPELINES_TOKEN"
        )
    if code == 404 and _is_json(answer):
        raise NotFound(f"the server has no {path} (404): {said}")
    if code >= 500:
        raise DeployError(
            f"the server failed at {method} {path} ({code}): {said}; give the same command again"
        )
    if not _is_json(answer):
        raise DeployError(
            f"{endpoint.url} is not the API of Kubeflow Pipelines (it answered {code}, and not in JSON); "
            "check endpoint.url, which ends before /apis"
        )
    if code >= 400:
        raise DeployError(f"the server refuses {method} {path} ({code}): {said}")
    return answer.json()


def _is_json(answer: requests.Response) -> bool:
    try:
        return isinstance(answer.json(), dict)
    except ValueError:
        return False


def _message(answer: requests.Response) -> str:
    """The server's own words, from any of the fields it puts them in."""
    if not _is_json(answer):
        return answer.reason or "no reason given"
    found = answer.json()
    words = next((found[key] for key in ("message", "error_message", "error") if found.get(key)), "")
    return " ".join(str(words).split()) or "no reason given"


@contextlib.contextmanager
def _opened(path: str) -> Iterator[dict[str, Any] | None]:
    """The multipart field of a file to upload, open for as long as it is sent; None without a path."""
    if not path:
        yield None
        return
    with open(path, "rb") as file:
        yield {"uploadfile": (os.path.basename(path), file, "application/yaml")}


def _title(version: Mapping[str, Any]) -> str:
    return str(version.get("display_name") or version.get("name"))


def _active(schedule: Mapping[str, Any]) -> bool:
    return schedule.get("status") == "ENABLED" or schedule.get("mode") == "ENABLE"


def _cron(schedule: Mapping[str, Any]) -> str:
    return str(schedule.get("trigger", {}).get("cron_schedule", {}).get("cron", ""))


def _reference(item: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = item.get("pipeline_version_reference") or {}
    return found


def _same(known: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a schedule does what is wanted."""

    def essence(schedule: Mapping[str, Any]) -> tuple[Any, ...]:
        parameters = (schedule.get("runtime_config") or {}).get("parameters") or {}
        return (
            _cron(schedule), dict(_reference(schedule)), parameters, schedule.get("experiment_id"),
            schedule.get("service_account", ""),
        )  # fmt: skip

    return essence(known) == essence(wanted)


def _digest(path: str) -> str:
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()[:12]


def pipeline_name(path: str) -> str:
    """The name of the pipeline in a compiled file. Raises SettingsError."""
    try:
        with open(path) as file:
            document = next(iter(yaml.safe_load_all(file)))
        return str(document["pipelineInfo"]["name"])
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}; compile.py --output makes it") from error
    except (yaml.YAMLError, StopIteration, KeyError, TypeError) as error:
        raise SettingsError(f"{path} is not a compiled pipeline; compile.py --output makes one") from error


def parameters_of(texts: Sequence[str]) -> dict[str, Any]:
    """name=value texts as a dictionary. Raises SettingsError."""
    pairs = [text.partition("=") for text in texts]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise SettingsError(f"--parameter must be name=value, got {name + equals!r}")
    return {name: value for name, _, value in pairs}


def _upload(deployment: Deployment, options: argparse.Namespace) -> None:
    found = pipeline_name(options.pipeline)
    if found != options.name:
        raise SettingsError(f"{options.pipeline} holds the pipeline {found!r}; add --name {found}")
    deployment.upload(options.pipeline)


def _run(deployment: Deployment, options: argparse.Namespace) -> None:
    deployment.run(parameters_of(options.parameter))


def _schedule(deployment: Deployment, options: argparse.Namespace) -> None:
    default = deployment.cluster.schedule
    chosen = options.cron or (default.cron if default else "")
    if not chosen:
        raise SettingsError(f"give --cron; {options.cluster} has no schedule")
    try:
        check_cron(chosen)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    deployment.schedule(chosen, parameters_of(options.parameter))


def _in_a_dry_run(line: str) -> None:
    print(f"(dry run) {line}")


def _fail(error: Exception, code: int) -> None:
    print(f"deploy.py: error: {error}", file=sys.stderr)
    sys.exit(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="deploy.py", formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--cluster", default=CLUSTER_FILE, help="default: %(default)s")
    common.add_argument("--name", default="latentline", help="of the pipeline (default: %(default)s)")
    common.add_argument("--dry-run", action="store_true", help="change nothing; print what would be sent")
    commands = parser.add_subparsers(required=True)

    def add(name: str, text: str, command: Callable[[Deployment, argparse.Namespace], None]) -> Any:
        added = commands.add_parser(name, help=text, parents=[common])
        added.set_defaults(command=command)
        return added

    upload = add("upload", "a compiled pipeline, or a new version of it", _upload)
    upload.add_argument("pipeline", help="file that compile.py wrote")
    run = add("run", "the newest version now", _run)
    schedule = add("schedule", "the newest version, in place of any schedule there is", _schedule)
    schedule.add_argument("--cron", help="six fields, seconds first (default: schedule.cron of the cluster)")
    for command in (run, schedule):
        command.add_argument("--parameter", action="append", default=[], metavar="NAME=VALUE")
    add("pause", "the schedule", lambda deployment, _: deployment.pause())
    add("status", "of versions, schedule and runs", lambda deployment, _: deployment.status())
    add("delete", "schedule and pipeline", lambda deployment, _: deployment.delete())
    return parser


if __name__ == "__main__":
    main()
