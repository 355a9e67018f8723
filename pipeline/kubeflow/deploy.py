"""Puts a compiled pipeline on Kubeflow Pipelines v2 and keeps its schedule.

    python kubeflow/deploy.py upload pipeline.yaml
    python kubeflow/deploy.py run --parameter data=/latentline/data/fashion
    python kubeflow/deploy.py schedule --cron "0 0 2 * * *"
    python kubeflow/deploy.py status | pause | delete
    python kubeflow/deploy.py manifests | kubectl apply --filename -

Every command may be repeated: what is there already is kept. With --dry-run the server is asked what there
is, and what would be sent to change it is printed instead. Exits 0, 1 (the server), or 2 (the request).
"""

import argparse
import base64
import contextlib
import gzip
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from pipeline.config.cluster import Cluster, check_cron
from pipeline.config.errors import SettingsError
from pipeline.execution.events import Unbreakable
from pipeline.kubeflow import manifests
from pipeline.kubeflow.api import (
    DeployError,
    DryRun,
    Http,
    NotFound,
    Transport,
    credentials,
    from_environment,
    listed,
    needed,
    shown,
)

CLUSTER_FILE = str(pathlib.Path(__file__).parents[2] / "kubeflow" / "cluster.yaml")
PAGE = 100
RUNS_SHOWN = 5


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; see the module for the exit codes."""
    options = _parser().parse_args(arguments)
    # A reader that goes away, as `| head` does, must not stop a command between two requests.
    lasting: Any = Unbreakable(sys.stdout)
    with contextlib.redirect_stdout(lasting):
        _obey(options)
        sys.stdout.flush()


def _obey(options: argparse.Namespace) -> None:
    try:
        cluster = Cluster.from_file(options.cluster)
        if options.command is None:
            print(manifests.rendered(cluster), end="")
            return
        endpoint = from_environment(cluster.endpoint, os.environ)
        transport: Transport = Http(endpoint, credentials(endpoint, os.environ))
        say: Callable[[str], None] = print
        if options.dry_run:
            transport, say = DryRun(transport, print), _in_a_dry_run
        options.command(Deployment(transport, cluster, options.name, say, workflow_messages), options)
    except SettingsError as error:
        _fail(error, 2)
    except DeployError as error:
        _fail(error, 1)
    except (AttributeError, TypeError, KeyError, RecursionError) as error:  # of an answer that is no answer
        _fail(
            DeployError(
                f"the server's answer is not one of Kubeflow Pipelines 2 ({type(error).__name__}: {error}); "
                "check endpoint.url"
            ),
            1,
        )


class Deployment:
    """A pipeline on the server, by name.

    say: gets what happens, one line at a time. workflow: run id, namespace -> messages of Argo's Workflow.
    """

    def __init__(
        self,
        transport: Transport,
        cluster: Cluster,
        name: str,
        say: Callable[[str], None],
        workflow: Callable[[str, str], list[str]] = lambda run, namespace: [],
    ) -> None:
        self._send = transport
        self._workflow = workflow
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
            self._say(f"{self._name}: made the pipeline {needed(pipeline, 'pipeline_id')}")
        if any(_title(known) == version for known in self._versions(pipeline)):
            self._say(f"{self._name}: version {version} is there already")
            return
        query = {"name": version, "pipelineid": needed(pipeline, "pipeline_id")}
        self._send("POST", "/pipelines/upload_version", query, file=path)
        self._say(f"{self._name}: uploaded version {version}")

    def run(self, parameters: Mapping[str, Any], wanted: str = "") -> None:
        """Start a version now: the one named `wanted`, or the newest."""
        version = self._chosen(wanted)
        body = {"display_name": f"{self._name} now", **self._work(version, parameters)}
        run = self._send("POST", "/runs", {}, body)
        self._say(f"{self._name}: run {needed(run, 'run_id')} of {_title(version)} started")

    def schedule(self, cron: str, parameters: Mapping[str, Any], wanted_version: str = "") -> None:
        """Run the newest version, or the one named, at the times of `cron`, and nothing else of this pipeline
        at any time.

        The new schedule is there before an old one goes, so that a failure in between leaves two for a
        while, never none; the same command, given again, ends that.
        """
        version = self._chosen(wanted_version)
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
            if needed(old, "recurring_run_id") != needed(kept, "recurring_run_id"):
                self._remove(old)

    def pause(self) -> None:
        """Stop the schedule until `schedule` is called again."""
        active = [known for known in self._schedules() if _active(known)]
        for known in active:
            self._send("POST", f"/recurringruns/{needed(known, 'recurring_run_id')}:disable", {})
            self._say(f"{self._name}: schedule {_cron(known)!r} paused; `deploy.py schedule` starts it again")
        if not active:
            self._say(f"{self._name}: has no active schedule")

    def status(self) -> None:
        """Tell the versions, the schedule and the last runs."""
        pipeline = self._pipeline()
        versions = self._versions(pipeline)
        self._say(f"{self._name}: pipeline {needed(pipeline, 'pipeline_id')}, {len(versions)} version(s)")
        for version in versions[:1]:
            self._say(f"  newest    {_title(version)}, uploaded {version.get('created_at', 'unknown')}")
        for known in self._schedules():
            state = "active" if _active(known) else "paused"
            self._say(f"  schedule  {_cron(known)!r}, {state}, since {known.get('created_at', 'unknown')}")
        query = {"page_size": PAGE, "sort_by": "created_at desc", **self._namespace}
        runs = listed(self._send("GET", "/runs", query), "runs")
        own = [run for run in runs if _reference(run).get("pipeline_id") == needed(pipeline, "pipeline_id")]
        for run in own[:RUNS_SHOWN]:
            state = str(run.get("state") or "PENDING")
            self._say(f"  run       {run.get('created_at', '')}  {shown(state):<9} {needed(run, 'run_id')}")
            if state == "FAILED":
                for line in self._why(run):
                    self._say(f"            {line}")

    def _why(self, run: Mapping[str, Any]) -> list[str]:
        """Return why a run failed, one line per task: from its details, else from Argo's Workflow."""
        found = _failed_tasks(self._send("GET", f"/runs/{needed(run, 'run_id')}", {}))
        if not found:
            found = self._workflow(needed(run, "run_id"), self.cluster.endpoint.namespace or "kubeflow")
        if not found and (message := _message(run)):
            found = [message]
        return found or ["the server does not say why; the run's page and the logs of its tasks do"]

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
            number = needed(version, "pipeline_version_id")
            self._send("DELETE", f"/pipelines/{needed(pipeline, 'pipeline_id')}/versions/{number}", {})
        self._send("DELETE", f"/pipelines/{needed(pipeline, 'pipeline_id')}", {})
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

    def _versions(self, pipeline: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Return the versions, newest first.

        Times are whole seconds. The first upload makes two versions within one: that of the server's own,
        named like the pipeline, and that named after the content, which counts as the newer one.
        """
        path = f"/pipelines/{needed(pipeline, 'pipeline_id')}/versions"
        found = list(self._all(path, "pipeline_versions", {"sort_by": "created_at desc"}))
        return sorted(found, key=lambda version: (_made(version), self._by_content(version)), reverse=True)

    def _by_content(self, version: Mapping[str, Any]) -> bool:
        return bool(re.fullmatch(re.escape(self._name) + r"-[0-9a-f]{12}", _title(version)))

    def _chosen(self, wanted: str) -> Mapping[str, Any]:
        """Return the version of that name, or the newest. Raises DeployError where two may be the newest."""
        versions = self._versions(self._pipeline())
        if wanted:
            named = [version for version in versions if wanted in (_title(version), version.get("name"))]
            if not named:
                known = ", ".join(_title(version) for version in versions[:5]) or "none"
                raise DeployError(f"there is no version {wanted!r}; the newest are {known}")
            return named[0]
        if not versions:
            raise DeployError(f"the pipeline {self._name!r} has no version on the server; upload it again")
        tied = [v for v in versions if _made(v) == _made(versions[0]) and self._by_content(v)]
        if len(tied) > 1:
            names = " and ".join(sorted(_title(version) for version in tied))
            raise DeployError(f"{names} were uploaded within one second; choose one with --version")
        return versions[0]

    def _schedules(self) -> Iterator[Mapping[str, Any]]:
        for known in self._all("/recurringruns", "recurringRuns", self._namespace):
            if known.get("display_name") == self._schedule_name:
                yield known

    def _remove(self, known: Mapping[str, Any]) -> None:
        """Disabled first: what cannot be deleted at least does not run."""
        path = f"/recurringruns/{needed(known, 'recurring_run_id')}"
        if _active(known):
            self._send("POST", f"{path}:disable", {})
        self._send("DELETE", path, {})
        self._say(
            f"{self._name}: removed the schedule {_cron(known)!r} of {known.get('created_at', 'unknown')}"
        )

    def _work(self, version: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
        """What a run and a schedule have in common."""
        reference = {key: needed(version, key) for key in ("pipeline_id", "pipeline_version_id")}
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
                return needed(known, "experiment_id")
        made = self._send("POST", "/experiments", {}, {"display_name": name, **self._namespace})
        return needed(made, "experiment_id")

    def _all(self, path: str, key: str, query: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """Yield the items of every page of a list. Raises DeployError for a list without end."""
        token, seen = "", set[str]()
        while True:
            page = self._send("GET", path, {**query, "page_size": PAGE, "page_token": token})
            yield from listed(page, key)
            token = str(page.get("next_page_token") or "")
            if not token:
                return
            if token in seen:
                raise DeployError(
                    f"the server's list of {key} has no end: it gives the page {shown(token)} again; look at "
                    "the server's log"
                )
            seen.add(token)


def _title(version: Mapping[str, Any]) -> str:
    return shown(version.get("display_name") or version.get("name") or "without a name")


def _made(version: Mapping[str, Any]) -> str:
    return str(version.get("created_at") or "")


def _message(item: Mapping[str, Any]) -> str:
    """Return the message of an item's error, where it has one."""
    error = item.get("error")
    return shown(error.get("message") or "") if isinstance(error, Mapping) else ""


def _failed_tasks(run: Mapping[str, Any]) -> list[str]:
    """Return the tasks that failed with their messages, as the details of a run have them."""
    details = run.get("run_details")
    tasks = details.get("task_details") if isinstance(details, Mapping) else None
    found = []
    for task in tasks if isinstance(tasks, list) else []:
        if isinstance(task, Mapping) and task.get("state") == "FAILED":
            name = shown(task.get("display_name") or task.get("task_id") or "a task")
            if message := _message(task):
                found.append(f"{name}: {message}")
    return found


def workflow_messages(run: str, namespace: str) -> list[str]:
    """Return the messages of the failed nodes of a run's Workflow; none where kubectl cannot read it."""
    kubectl = shutil.which("kubectl")
    if not kubectl:
        return []
    try:
        answer = subprocess.run(
            [kubectl, "--namespace", namespace, "--request-timeout", "20s", "get", "workflows.argoproj.io",
             "--selector", f"pipeline/runid={run}", "--output", "json"],
            capture_output=True, timeout=30, check=False,
        )  # fmt: skip
        items = json.loads(answer.stdout)["items"] if answer.returncode == 0 else []
        return [line for item in items for line in failed_nodes(item)]
    except (OSError, ValueError, KeyError, TypeError, RecursionError, subprocess.TimeoutExpired):
        return []


def failed_nodes(workflow: Mapping[str, Any]) -> list[str]:
    """Return the failed pods of a Workflow with their messages; also where Argo has compressed them.

    Raises ValueError, KeyError and TypeError for what is no Workflow.
    """
    status = workflow["status"]
    nodes = dict(status.get("nodes") or {})
    if packed := status.get("compressedNodes"):
        try:
            nodes |= json.loads(gzip.decompress(base64.b64decode(packed, validate=True)))
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"the states of the Workflow are damaged ({error})") from error
    found = {}
    for node in nodes.values():
        if node.get("type") == "Pod" and node.get("phase") in ("Failed", "Error") and node.get("message"):
            parts = [part for part in str(node["name"]).split(".")[1:] if not part.startswith("executor")]
            found[shown((parts or [node["name"]])[-1]).partition("(")[0]] = shown(node["message"])
    if not found and status.get("message"):
        return [shown(status["message"])]
    return [f"{name}: {message}" for name, message in sorted(found.items())]


def _active(schedule: Mapping[str, Any]) -> bool:
    return schedule.get("status") == "ENABLED" or schedule.get("mode") == "ENABLE"


def _cron(schedule: Mapping[str, Any]) -> str:
    return shown(((schedule.get("trigger") or {}).get("cron_schedule") or {}).get("cron") or "")


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
    deployment.run(parameters_of(options.parameter), options.version)


def _schedule(deployment: Deployment, options: argparse.Namespace) -> None:
    default = deployment.cluster.schedule
    chosen = options.cron or (default.cron if default else "")
    if not chosen:
        raise SettingsError(f"give --cron; {options.cluster} has no schedule")
    try:
        check_cron(chosen)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    deployment.schedule(chosen, parameters_of(options.parameter), options.version)


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

    def add(name: str, text: str, command: Callable[[Deployment, argparse.Namespace], None] | None) -> Any:
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
        command.add_argument("--version", default="", metavar="NAME", help="default: the newest")
    add("pause", "the schedule", lambda deployment, _: deployment.pause())
    add("status", "of versions, schedule and runs", lambda deployment, _: deployment.status())
    add("manifests", "print what the cluster needs, for kubectl apply", None)
    add("delete", "schedule and pipeline", lambda deployment, _: deployment.delete())
    return parser


if __name__ == "__main__":
    main()
