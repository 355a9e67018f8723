"""Trace a model in ML Metadata, from execution to execution: what it was made of, and where it was pushed."""

import hashlib
import json
import os
import pathlib
from typing import Any

from tfx.utils import path_utils

from components.evaluation.gated import REPLACED
from components.identity import DATASET
from components.ingest.example_gen import RESIZE, SCALE, SUBSET, WINDOW
from components.ingest.spans import SEPARATOR
from components.reporting.results import data_statistics, overall_metrics, why_not
from components.serving.versions import SOURCE, published, source
from pipeline.home import metadata
from pipeline.home.layout import Home
from pipeline.home.metadata import Artifact, Blessing, Execution, Push, Store, when
from pipeline.registry import alarms as alarm_records
from pipeline.registry.production import TYPES
from schemas import PIXEL_VALUES, TRAINING_RECORD

GATE = "gate"

Facts = dict[str, Any]
"""What is known of a model, as values of JSON; `find` states the keys."""


class LineageError(ValueError):
    """A model that cannot be found; the message says where it was looked for."""


def find(model: str, home: str | Home | None) -> Facts:
    """Return what is known of a model.

    model: the folder of a version, of versions (the newest is taken) or of an artifact; or a variant.
    home: of the runs, or its path; None for the folder above the model that has metadata. The facts are
    model, data, training, metrics, compared_with, verdicts and versions. Raises LineageError.
    """
    place = home_of(model, home)
    uri = artifact_uri(model, place)
    with metadata.opened(place) as found:
        artifact = found.at(uri, metadata.MODEL)
        if artifact is None:
            raise LineageError(f"the metadata of {place} knows no model at {uri}")
        trainer = found.maker(artifact)
        evaluation = evaluation_of(found, artifact)
        return {
            "model": {
                "id": artifact.id,
                "path": artifact.uri,
                "node": found.node(trainer.id).name,
                "home": str(place),
            },
            "data": data(found, trainer),
            "training": training(found, trainer),
            "metrics": metrics(found, evaluation),
            "compared_with": compared_with(found, evaluation),
            "verdicts": verdicts(found, artifact),
            "versions": versions(found, artifact),
            "alarms": alarms(found, artifact),
        }


def data(found: Store, trainer: Execution) -> Facts:
    """Return the facts of the images that a trainer's examples were made of."""
    [transformed] = found.inputs(trainer.id)["examples"]
    [raw] = found.inputs(found.maker(transformed).id)["examples"]
    example_gen = found.maker(raw)
    window = raw.text(WINDOW)
    files = example_gen.properties.get("input_fingerprint")
    counts = {}
    for user in found.users(raw):
        for statistics in found.outputs(user.id).get("statistics", []):
            if os.path.isdir(statistics.uri):
                counts = {split["split"]: split["examples"] for split in data_statistics(statistics.tfx)}
    facts = {
        "name": raw.text(DATASET),
        "folder": example_gen.properties.get("input_base"),
        "spans": window.split(SEPARATOR) if window else [],
        **{name: example_gen.properties.get(name) or None for name in (PIXEL_VALUES, SUBSET, RESIZE)},
        SCALE: bool(example_gen.properties.get(SCALE)),
        "fingerprint": hashlib.sha256(str(files).encode()).hexdigest()[:16],
        "files": files,
        "images": counts,
        "read": when(example_gen),
        "code": example_gen.properties.get("code"),
    }
    if window:  # without spans these are TFX's placeholders
        facts |= {name: example_gen.properties.get(name) for name in ("span", "version")}
    return facts


def training(found: Store, trainer: Execution) -> Facts:
    """Return the facts of a training: its time, code, config, recipe, seed and steps."""
    asked = json.loads(trainer.properties["custom_config"])
    facts = {**asked["job"], "code": asked["code"], "trained": when(trainer)}
    for run in found.outputs(trainer.id).get("model_run", []):
        path = pathlib.Path(run.uri, TRAINING_RECORD)
        if path.exists():
            record = json.loads(path.read_text())
            facts |= {name: record[name] for name in ("steps", "examples", "parameters", "train_seconds")}
    started = found.inputs(trainer.id).get("base_model", [])
    return {**facts, "started_from": started[0].id if started else None}


def metrics(found: Store, evaluation: Execution | None) -> Facts:
    """Return the metrics over the whole test split by name, each as {value, lower, upper, unit}."""
    for artifact in found.outputs(evaluation.id).get("evaluation", []) if evaluation else []:
        if os.path.isdir(artifact.uri):
            return dict(overall_metrics(artifact.uri))
    return {}


def compared_with(found: Store, evaluation: Execution | None) -> Facts | None:
    """Return the baseline that a model was compared with, or replaced without one; None if there was none."""
    taken = found.inputs(evaluation.id) if evaluation else {}
    for replaced, key in ((False, "baseline_model"), (True, REPLACED)):
        for model in taken.get(key, []):
            about = {"id": model.id, "path": model.uri, "versions": _numbers(found, model)}
            return {**about, "replaced": True} if replaced else about
    return None


def verdicts(found: Store, model: Artifact) -> list[Facts]:
    """Return the verdicts on a model, oldest first: of the gate, or of somebody with a reason."""
    entries, variant = [], found.node(found.maker(model).id).variant
    for execution, kind in _about(found, model):
        for blessing in found.outputs(execution.id).get("blessing", []):
            assert isinstance(blessing, Blessing)
            why = _decision(execution)
            if kind == GATE and not blessing.blessed:
                folders = [a.uri for a in found.outputs(execution.id)["evaluation"] if os.path.isdir(a.uri)]
                why = {"reason": why_not(folders[0], variant) if folders else ""}
            entries.append({"by": kind, "blessed": blessing.blessed, "when": when(execution), **why})
    return entries


def versions(found: Store, model: Artifact) -> list[Facts]:
    """Return the versions that are copies of a model, oldest first."""
    entries: dict[int, Facts] = {}
    for execution, kind in _about(found, model):
        for push in found.outputs(execution.id).get("pushed_model", []):
            assert isinstance(push, Push)
            if push.version is not None and push.version not in entries:
                there = published(os.path.dirname(push.destination))
                entries[push.version] = {
                    "version": push.version, "folder": push.destination, "pushed": when(execution),
                    "by": kind, "exists": push.version in there, "current": there[-1:] == [push.version],
                    **_decision(execution),
                }  # fmt: skip
    return list(entries.values())


def alarms(found: Store, model: Artifact) -> list[Facts]:
    """Return who ended the alarms of the model's variant, oldest first: with which word, and why."""
    node = found.node(found.maker(model).id)
    ended = [
        (execution, str(command))
        for command, kind in {**alarm_records.TYPES, **TYPES}.items()
        for execution in found.executions_of_node(node.pipeline, f"{kind}.{node.variant}")
        if execution.state.succeeded and alarm_records.EVALUATION in found.outputs(execution.id)
    ]
    return [
        {"by": word, "when": when(execution), **_decision(execution)}
        for execution, word in sorted(ended, key=lambda each: each[0].id)
    ]


def text(facts: Facts) -> str:
    """Return the facts as text, one line per fact."""
    about, images, job = facts["model"], facts["data"], facts["training"]
    counts = ", ".join(f"{count:,} {split}" for split, count in images["images"].items()) or "unknown"
    lines = [
        ("model", f"{about['node'].partition('.')[2]}, artifact {about['id']} at {about['path']}"),
        ("data", f"{_named(images)} ({counts} images), read {_short(images['read'])}"),
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
        *[("alarm", f"ended {_short(end['when'])} by {_who(end)}") for end in facts["alarms"]],
    ]
    if not facts["versions"]:
        lines.append(("version", "never pushed"))
    shown = []
    for index, (name, words) in enumerate(lines):
        repeated = index and lines[index - 1][0] == name
        shown.append(f"{'' if repeated else name:<12}  {words}")
    return "\n".join(shown)


def _about(found: Store, model: Artifact) -> list[tuple[Execution, str]]:
    """Return the executions that decided on a model or pushed it, each with its kind, oldest first."""
    kinds = {name: kind for kind, name in TYPES.items()}
    entries = []
    for execution in found.users(model):
        if any(artifact.id == model.id for artifact in found.inputs(execution.id).get("model", [])):
            node = found.node(execution.id).name
            entries.append((execution, next((k for name, k in kinds.items() if node.startswith(name)), GATE)))
    return _without_repeats(found, entries)


def _without_repeats(found: Store, entries: list[tuple[Execution, str]]) -> list[tuple[Execution, str]]:
    """Return the entries without executions whose outputs are those of an earlier one, from the cache."""
    kept, seen = [], set()
    for execution, kind in entries:
        given = frozenset(a.id for artifacts in found.outputs(execution.id).values() for a in artifacts)
        if given and given not in seen:
            kept.append((execution, kind))
            seen.add(given)
    return kept


def evaluation_of(found: Store, model: Artifact) -> Execution | None:
    """Return the newest execution that evaluated a model; None if there is none."""
    entries = [
        execution for execution, _ in _about(found, model) if "evaluation" in found.outputs(execution.id)
    ]
    return entries[-1] if entries else None


def _numbers(found: Store, model: Artifact) -> list[int]:
    return [version["version"] for version in versions(found, model)]


def _decision(execution: Execution) -> Facts:
    """Return who decided and why; empty if the gate did."""
    user = execution.properties.get("user")
    return {"user": user, "reason": execution.properties.get("reason") or ""} if user else {}


def home_of(model: str, home: str | Home | None) -> Home:
    """Return the home of a model, by default the one above its folder. Raises LineageError."""
    if isinstance(home, Home):
        return home
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


def artifact_uri(model: str, home: Home) -> str:
    """Return the folder of the model artifact that is meant. Raises LineageError."""
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


def _named(images: Facts) -> str:
    """Return the data set's name and folder; the folder alone for data of 0.1, whose name is not recorded."""
    return f"{images['name']} in {images['folder']}" if images["name"] else str(images["folder"])


def _spans(images: Facts) -> str:
    return ", ".join(images["spans"])


def _metric(name: str, metric: Facts) -> str:
    return f"{name} {metric['value']:.4g} ({metric['lower']:.4g} to {metric['upper']:.4g}) {metric['unit']}"


def _baseline(baseline: Facts | None) -> str:
    if baseline is None:
        return "with no model: there was none in production"
    numbers = ", ".join(map(str, baseline["versions"])) or "never pushed"
    if baseline.get("replaced"):
        return f"with no model: {baseline['id']} (version {numbers}) was replaced by decision (--new-era)"
    return f"with model {baseline['id']} (version {numbers})"


def _verdict(verdict: Facts) -> str:
    word = "blessed" if verdict["blessed"] else "refused"
    return f"{word} {_short(verdict['when'])} by {_who(verdict)}"


def _version(version: Facts) -> str:
    state = " (current)" if version["current"] else "" if version["exists"] else " (removed since)"
    return f"{version['version']}{state}, pushed {_short(version['pushed'])} by {_who(version)}"


def _who(entry: Facts) -> str:
    who = "the gate" if entry["by"] == GATE else f"{entry['user']}, {entry['by']}"
    return f"{who}: {entry['reason']}" if entry.get("reason") else who


def _short(moment: str) -> str:
    return moment[:16].replace("T", " ")
