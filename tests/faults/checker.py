"""An independent reader of a home: whether metadata, artifacts, manifests, versions and journal agree.

It uses none of the product's code: SQL on the tables of ML Metadata, SHA-256 and JSON.
"""

import hashlib
import json
import pathlib
import re
import sqlite3
from typing import Any

NEW, RUNNING, COMPLETE, CACHED = 1, 2, 3, 5
LIVE = 2
OUTPUT = 4
KNOWN = {
    ".lock", ".metadata.lock", ".schedule.lock", "artifacts", "logs", "metadata.db", "metadata.db.bak",
    "report", "runs", "serving", "intent.json", "schedule.json",
}  # fmt: skip
VERSION_MANIFEST = "latentline_manifest.sha256"
SOURCE = "latentline_source.txt"
CARDS = {"model_card.json", "model_card.md"}
"""Files of a version that its manifest does not list, beside the manifest itself."""


def disagreements(home: pathlib.Path) -> list[str]:
    """Return what does not agree in a home in which nothing is under way; an empty list if all does."""
    return [
        *_of_store(home),
        *_of_artifacts(home),
        *_of_serving(home),
        *_of_journal(home),
        *_of_leftovers(home),
    ]


def query(home: pathlib.Path, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(f"file:{home / 'metadata.db'}?mode=ro", uri=True)
    try:
        return connection.execute(sql, values).fetchall()
    finally:
        connection.close()


def listed(manifest: pathlib.Path) -> dict[str, str]:
    """Return the digests that a manifest lists, by name, as `sha256sum --check` reads them."""
    lines = [line for line in manifest.read_text().splitlines() if not line.startswith("#")]
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def digests(folder: pathlib.Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _of_store(home: pathlib.Path) -> list[str]:
    found = [
        f"execution {number} has no end"
        for (number,) in query(
            home, "SELECT id FROM Execution WHERE last_known_state IN (?, ?)", NEW, RUNNING
        )
    ]
    outputs = query(
        home,
        "SELECT artifact_id, execution_id FROM Event WHERE type = ? AND execution_id NOT IN "
        "(SELECT id FROM Execution WHERE last_known_state IN (?, ?))",
        OUTPUT, COMPLETE, CACHED,
    )  # fmt: skip
    return found + [f"artifact {one} is of execution {other}, which failed" for one, other in outputs]


def _of_artifacts(home: pathlib.Path) -> list[str]:
    found = []
    known = dict(query(home, "SELECT uri, state FROM Artifact ORDER BY id"))
    for uri, state in known.items():
        folder = pathlib.Path(uri)
        manifest = folder.with_name(f".{folder.name}.sha256")
        if state == LIVE and not folder.is_relative_to(home / "artifacts"):
            found.append(f"{uri} is live and lies elsewhere")
        elif state == LIVE and not (folder.is_dir() and manifest.is_file()):
            found.append(f"{uri} is live, and its folder or manifest is gone")
        elif state == LIVE and listed(manifest) != digests(folder):
            found.append(f"{uri} is live, and differs from its manifest")
    for folder in (home / "artifacts").glob("*/*/*"):
        if ".system" in folder.parts:
            continue
        if folder.name.isdecimal() and known.get(str(folder)) != LIVE:
            found.append(f"{folder} is there, and no live artifact is")
        elif ".pruned-" in folder.name or folder.name.endswith((".tmp", ".restoring")):
            found.append(f"{folder} was left over")
        elif (name := re.fullmatch(r"\.(.+)\.sha256", folder.name)) and not folder.with_name(
            name[1]
        ).is_dir():
            found.append(f"{folder} is the manifest of nothing")
    return found


def _of_serving(home: pathlib.Path) -> list[str]:
    found = []
    rows = query(
        home,
        "SELECT string_value, count(*) FROM ArtifactProperty WHERE name = 'pushed_destination' "
        "AND string_value != '' GROUP BY string_value",
    )
    pushed = {pathlib.Path(folder): count for folder, count in rows}
    for variant in sorted((home / "serving").glob("*")):
        folders = [path for path in variant.iterdir() if path.name.isdecimal()]
        extra = (
            {path.name for path in variant.iterdir()}
            - {path.name for path in folders}
            - {".withdrawn", ".unverified"}
        )
        found += [f"{variant / name} was left over" for name in sorted(extra)]
        for folder in folders:
            if not (folder / VERSION_MANIFEST).is_file() or not (folder / SOURCE).is_file():
                found.append(f"{folder} lacks its manifest or its source")
                continue
            there = digests(folder)
            there = {name: there[name] for name in there.keys() - CARDS - {VERSION_MANIFEST, SOURCE}}
            if there != listed(folder / VERSION_MANIFEST):
                found.append(f"{folder} differs from its manifest")
            if pushed.get(folder) != 1:
                found.append(f"{folder} was pushed {pushed.get(folder, 0)} times by ML Metadata")
        if folders:
            newest = max(folders, key=lambda path: int(path.name))
            found += _of_current(home, variant.name, (newest / SOURCE).read_text().strip())
    found += [f"{folder} was pushed, and is gone" for folder in pushed if not folder.is_dir()]
    return found


def _of_current(home: pathlib.Path, variant: str, source: str) -> list[str]:
    """The newest blessing of the variant names what serves."""
    rows = query(
        home,
        "SELECT uri.string_value FROM Artifact JOIN ArtifactProperty AS yes ON yes.artifact_id = Artifact.id "
        "AND yes.name = 'blessed' AND yes.int_value = 1 JOIN ArtifactProperty AS uri "
        "ON uri.artifact_id = Artifact.id AND uri.name = 'current_model' ORDER BY Artifact.id",
    )
    named = [uri for (uri,) in rows if pathlib.Path(uri).parts[-3] == f"Trainer.{variant}"]
    if named and named[-1] != source:
        return [f"{source} serves, and the newest blessing is of {named[-1]}"]
    return []


def _of_journal(home: pathlib.Path) -> list[str]:
    found: list[str] = []
    stamps: set[str] = set()
    versions: dict[str, int] = {}
    for path in sorted((home / "runs").glob("*")):
        try:
            record = json.loads(path.read_text())
        except ValueError:
            found.append(f"{path} cannot be read")
            continue
        if record["status"] == "running":
            found.append(f"{path} has no end")
        if record["command"] != "run" and record["status"] == "succeeded":
            stamps.add(record["stamp"])
            versions |= {name: outcome["version"] for name, outcome in record["variants"].items()}
    rows = query(
        home,
        "SELECT ExecutionProperty.string_value FROM ExecutionProperty JOIN Execution "
        "ON Execution.id = execution_id WHERE ExecutionProperty.name = 'stamp' AND last_known_state = ?",
        COMPLETE,
    )
    decided = [stamp for (stamp,) in rows]
    if sorted(stamps) != sorted(decided):
        found.append(f"the journal has the decisions {sorted(stamps)}, ML Metadata {sorted(decided)}")
    for name, version in versions.items():
        if not (home / "serving" / name / str(version)).is_dir():
            found.append(f"the journal names version {version} of {name}, which is not there")
    return found


def _of_leftovers(home: pathlib.Path) -> list[str]:
    names = {path.name for path in home.iterdir()} - KNOWN
    found = [f"{home / name} was left over" for name in sorted(names)]
    if (home / "intent.json").exists():
        found.append("an intent is still there")
    working = (home / "artifacts").glob("*/.system/stateful_working_dir/*")
    return found + [f"{path} was left over" for path in working]
