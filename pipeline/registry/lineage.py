"""Where a model comes from and where it went: from ML Metadata, by walking from execution to execution."""

import hashlib
import json
import os
import pathlib
from typing import Any

from tfx import types
from tfx.components.evaluator import constants as evaluator
from tfx.components.pusher import executor as pusher
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from components.ingest.example_gen import SEPARATOR, WINDOW
from components.reporting.results import data_statistics, overall_metrics, why_not
from components.serving.versions import SOURCE, published, source
from pipeline.home import metadata as graph
from pipeline.home.layout import Home
from pipeline.home.metadata import Graph
from pipeline.registry.production import TYPES
from schemas import TRAINING_RECORD

GATE = "gate"

Facts = dict[str, Any]
"""What is known of a model, as values of JSON; the keys are those of `find`."""


class LineageError(ValueError):
    """A model that cannot be found; the message says where it was looked for."""


def find(model: str, home: str | None) -> Facts:
    """What is known of `model`: a folder of a version, of versions (the newest) or of an artifact; a variant.

    home: of the runs; None for the folder above the model that has metadata. The facts are model, data,
    training, metrics, compared_with, verdicts and versions. Raises LineageError.
    """
    place = _home(model, home)
    uri = _artifact_uri(model, place)
    with graph.opened(place) as (_, found):
        artifact = found.at(uri, standard_artifacts.Model.TYPE_NAME)
        if artifact is None:
            raise LineageError(f"the metadata of {place} knows no model at {uri}")
        trainer = found.maker(artifact)
        evaluation = _evaluation(found, artifact)
        return {
            "model": {"id": artifact.id, "path": uri, "node": found.node(trainer).name, "home": str(place)},
            "data": data(found, trainer),
            "training": training(found, trainer),
            "metrics": metrics(found, evaluation),
            "compared_with": compared_with(found, evaluation),
            "verdicts": verdicts(found, artifact),
            "versions": versions(found, artifact),
        }


def data(found: Graph, trainer: Any) -> Facts:
    """The images that the trainer's examples were made of."""
    [transformed] = found.inputs(trainer)["examples"]
    [raw] = found.inputs(found.maker(transformed))["examples"]
    example_gen = found.maker(raw)
    window = raw.get_string_custom_property(WINDOW)
    files = graph.value(example_gen, "input_fingerprint")
    counts = {}
    for user in found.users(raw):
        for statistics in found.outputs(user).get("statistics", []):
            if os.path.isdir(statistics.uri):
                counts = {split["split"]: split["examples"] for split in data_statistics(statistics)}
    facts = {
        "folder": graph.value(example_gen, "input_base"),
        "spans": window.split(SEPARATOR) if window else [],
        "fingerprint": hashlib.sha256(str(files).encode()).hexdigest()[:16],
        "files": files,
        "images": counts,
        "read": graph.when(example_gen),
        "code": graph.value(example_gen, "code"),
    }
    if window:  # without spans these are TFX's placeholders
        facts |= {name: graph.value(example_gen, name) for name in ("span", "version")}
    return facts


def training(found: Graph, trainer: Any) -> Facts:
    """How the model was made."""
    asked = json.loads(graph.value(trainer, "custom_config"))
    facts = {**asked["job"], "code": asked["code"], "trained": graph.when(trainer)}
    for run in found.outputs(trainer).get("model_run", []):
        path = pathlib.Path(run.uri, TRAINING_RECORD)
        if path.exists():
            record = json.loads(path.read_text())
            facts |= {name: record[name] for name in ("steps", "examples", "parameters", "train_seconds")}
    started = found.inputs(trainer).get("base_model", [])
    return {**facts, "started_from": started[0].id if started else None}


def metrics(found: Graph, evaluation: Any) -> Facts:
    """The metrics over the whole test split, {value, lower, upper, unit} by name."""
    for artifact in found.outputs(evaluation).get("evaluation", []) if evaluation else []:
        if os.path.isdir(artifact.uri):
            return dict(overall_metrics(artifact.uri))
    return {}


def compared_with(found: Graph, evaluation: Any) -> Facts | None:
    """The model in production then, which this one had to beat; None where there was none."""
    baselines = found.inputs(evaluation).get("baseline_model", []) if evaluation else []
    return (
        {"id": baselines[0].id, "path": baselines[0].uri, "versions": _numbers(found, baselines[0])}
        if baselines
        else None
    )


def verdicts(found: Graph, model: types.Artifact) -> list[Facts]:
    """Who blessed the model or refused it, oldest first: the gate, or somebody with a reason."""
    told, variant = [], found.node(found.maker(model)).name.partition(".")[2]
    for execution, kind in _about(found, model):
        for blessing in found.outputs(execution).get("blessing", []):
            blessed = blessing.get_int_custom_property(evaluator.ARTIFACT_PROPERTY_BLESSED_KEY) == 1
            why = _decision(execution)
            if kind == GATE and not blessed:
                folders = [a.uri for a in found.outputs(execution)["evaluation"] if os.path.isdir(a.uri)]
                why = {"reason": why_not(folders[0], variant) if folders else ""}
            told.append({"by": kind, "blessed": blessed, "when": graph.when(execution), **why})
    return told


def versions(found: Graph, model: types.Artifact) -> list[Facts]:
    """The versions that are copies of the model, oldest first."""
    told: dict[str, Facts] = {}
    for execution, kind in _about(found, model):
        for pushed in found.outputs(execution).get("pushed_model", []):
            number = pushed.get_string_custom_property(pusher._PUSHED_VERSION_KEY)
            folder = pushed.get_string_custom_property(pusher._PUSHED_DESTINATION_KEY)
            if number and number not in told:
                there = published(os.path.dirname(folder))
                told[number] = {
                    "version": int(number), "folder": folder, "pushed": graph.when(execution), "by": kind,
                    "exists": int(number) in there, "current": there[-1:] == [int(number)],
                    **_decision(execution),
                }  # fmt: skip
    return list(told.values())


def text(facts: Facts) -> str:
    """The facts in lines."""
    about, images, job = facts["model"], facts["data"], facts["training"]
    counts = ", ".join(f"{count:,} {split}" for split, count in images["images"].items()) or "unknown"
    lines = [
        ("model", f"{about['node'].partition('.')[2]}, artifact {about['id']} at {about['path']}"),
        ("data", f"{images['folder']} ({counts} images), read {_short(images['read'])}"),
        ("fingerprint", f"{images['fingerprint']} of the files, see --json"),
        *([("spans", _spans(images))] if images["spans"] else []),
        ("code", f"trainer {job['code']}, ingestion {images['code']}"),
        ("training", _training(job)),
        *[(name, json.dumps(job[name], sort_keys=True)) for name in ("config", "recipe") if job[name]],
        *([("started from", f"the weights of model {job['started_from']}")] if job["started_from"] else []),
        *[("metric", _metric(name, metric)) for name, metric in facts["metrics"].items()],
        ("compared", _baseline(facts["compared_with"])),
        *[("verdict", _verdict(verdict)) for verdict in facts["verdicts"]],
        *[("version", _version(version)) for version in facts["versions"]],
    ]
    if not facts["versions"]:
        lines.append(("version", "never pushed"))
    shown = []
    for index, (name, words) in enumerate(lines):
        repeated = index and lines[index - 1][0] == name
        shown.append(f"{'' if repeated else name:<12}  {words}")
    return "\n".join(shown)


def _about(found: Graph, model: types.Artifact) -> list[tuple[Any, str]]:
    """The executions that decided on the model or pushed it, with the kind of each, oldest first."""
    kinds = {name: kind for kind, name in TYPES.items()}
    told = []
    for execution in found.users(model):
        if any(artifact.id == model.id for artifact in found.inputs(execution).get("model", [])):
            node = found.node(execution).name
            told.append((execution, next((k for name, k in kinds.items() if node.startswith(name)), GATE)))
    return _without_repeats(found, told)


def _without_repeats(found: Graph, told: list[tuple[Any, str]]) -> list[tuple[Any, str]]:
    """Without executions whose outputs came from the cache, that is from one before them."""
    kept, seen = [], set()
    for execution, kind in told:
        given = frozenset(a.id for artifacts in found.outputs(execution).values() for a in artifacts)
        if given and given not in seen:
            kept.append((execution, kind))
            seen.add(given)
    return kept


def _evaluation(found: Graph, model: types.Artifact) -> Any:
    """The newest execution that evaluated the model; None where there is none."""
    told = [execution for execution, _ in _about(found, model) if "evaluation" in found.outputs(execution)]
    return told[-1] if told else None


def _numbers(found: Graph, model: types.Artifact) -> list[int]:
    return [version["version"] for version in versions(found, model)]


def _decision(execution: Any) -> Facts:
    """Who decided, and why, where that was somebody."""
    user = graph.value(execution, "user")
    return {"user": user, "reason": graph.value(execution, "reason") or ""} if user else {}


def _home(model: str, home: str | None) -> Home:
    if home is not None:
        candidates = [pathlib.Path(home).expanduser().resolve()]
    else:
        place = pathlib.Path(model).expanduser().resolve()
        candidates = [place, *place.parents] if place.exists() else [pathlib.Path("out").resolve()]
    for candidate in candidates:
        if Home(candidate).database.exists():
            return Home(candidate)
    raise LineageError(
        f"no metadata of runs in {candidates[0]} or above; give the --home of `latentline run`"
    )


def _artifact_uri(model: str, home: Home) -> str:
    """Where the model artifact lies that is meant."""
    folder = pathlib.Path(model).expanduser()
    if not folder.exists():
        folder = home.versions(model)
    if not folder.is_dir():
        there = sorted(path.name for path in home.serving.glob("[!.]*"))
        raise LineageError(
            f"there is no folder {model}, nor a variant of that name among {', '.join(there) or 'none'}"
        )
    folder = folder.resolve()
    if numbers := published(str(folder)):
        folder /= str(numbers[-1])
    if (folder / SOURCE).exists():
        return source(str(folder.parent), int(folder.name))
    if path_utils.serving_model_path(str(folder.parent)) == str(folder):
        folder = folder.parent
    return str(folder)


def _training(job: Facts) -> str:
    size = (
        f", {job['steps']:,} steps on {job['examples']:,} images in {job['train_seconds']:.1f} s"
        if "steps" in job
        else ""
    )
    kind = f"profile {job['profile']}, protocol {job['protocol']}, seed {job['seed']}"
    return f"{_short(job['trained'])}, {kind}{size}"


def _spans(images: Facts) -> str:
    return ", ".join(images["spans"])


def _metric(name: str, metric: Facts) -> str:
    return f"{name} {metric['value']:.4g} ({metric['lower']:.4g} to {metric['upper']:.4g}) {metric['unit']}"


def _baseline(baseline: Facts | None) -> str:
    if baseline is None:
        return "with no model: there was none in production"
    numbers = ", ".join(map(str, baseline["versions"])) or "never pushed"
    return f"with model {baseline['id']} (version {numbers})"


def _verdict(verdict: Facts) -> str:
    word = "blessed" if verdict["blessed"] else "refused"
    return f"{word} {_short(verdict['when'])} by {_who(verdict)}"


def _version(version: Facts) -> str:
    state = " (current)" if version["current"] else "" if version["exists"] else " (removed since)"
    return f"{version['version']}{state}, pushed {_short(version['pushed'])} by {_who(version)}"


def _who(told: Facts) -> str:
    who = "the gate" if told["by"] == GATE else f"{told['user']}, {told['by']}"
    return f"{who}: {told['reason']}" if told.get("reason") else who


def _short(moment: str) -> str:
    return moment[:16].replace("T", " ")
