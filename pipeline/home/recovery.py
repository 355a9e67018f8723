"""Puts a home in order before a run, whatever became of the run before: killed, out of disk, damaged since.

Called by the process that holds the home's lock, so that nothing it finds under way can really be. Nothing
is lost: only files of executions that never completed are removed, and what is damaged or unknown to the
metadata store is set aside and made again.
"""

import contextlib
import os
import pathlib
import re
import shutil
import sqlite3
import time
import urllib.parse
from collections.abc import Callable

from tfx.utils import path_utils

from components.serving import manifests
from components.serving.publication import expected
from components.serving.versions import (
    by_variant,
    note_unverified,
    published,
    same_artifact,
    source,
    unverified,
)
from pipeline.config.errors import MetadataDamaged
from pipeline.home import metadata
from pipeline.home.layout import Home
from pipeline.home.metadata import Execution, State, Store

DECISIONS = "latentline."
"""How the names of nodes begin that stand for what a person decided."""
RESTORING = "restoring"
DAMAGED = "damaged"
UNKNOWN = "unknown"
PRUNED = "pruned"
"""Endings of folders that were set aside; the last are on their way out (pipeline.registry.prune)."""
STAGED = re.compile(r"\.\d+-[0-9a-f]{32}")
"""Names under which components.serving.publication copies a version before it is renamed into place."""
UNNAMED = re.compile(r"\..+\.json-[0-9a-f]{32}")
"""Names under which pipeline.home.files writes a file before it is renamed into place."""
YOUNG = 60.0
"""Seconds for which such a file may be of a living process: the service and hooks write without the lock."""
UNUSABLE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def put_in_order(home: Home, say: Callable[[str], None]) -> None:
    """Make `home` ready for a run; a line for what was not in order. Raises MetadataDamaged.

    Executions that are recorded as running are marked failed and their files removed; artifacts that are
    gone or damaged are recorded as deleted, so that they are made again; what a killed push left is removed.
    """
    if home.shared:
        return  # a run may be under way, and what it left behind is its next attempt's to take over
    check_database(home)
    remove_leftovers(home)
    if not home.database.exists():
        return
    with metadata.opened(home) as store:
        settle_in(store, home, say)
        if ended := end_executions(store, home):
            say(f"! the run before was cut off in {', '.join(ended)}, which is done again")
        for folder in set_unknown_aside(store, home):
            say(f"! {folder} is unknown to {home.database.name}; set aside")
        for found in delete_damaged(store, home):
            say(f"! {found}")
        for found in restore_serving(store, home):
            say(f"! {found}")
    adopt_versions(home)


def keep_copy(home: Home) -> None:
    """Copy the metadata database beside itself, whole or not at all; a server's copies are its own matter.

    Raises OSError and sqlite3.Error.
    """
    if home.shared:
        return
    staging = home.database_copy_staging
    with (
        contextlib.closing(_connected(home.database)) as source,
        contextlib.closing(sqlite3.connect(staging)) as copy,
    ):
        source.backup(copy)
    os.replace(staging, home.database_copy)


def check_database(home: Home) -> None:
    """Raise MetadataDamaged if the database is not what a run has left: no SQLite file, damaged, or gone."""
    if home.shared:
        return
    database = home.database
    if not database.exists() or not database.stat().st_size:
        if any(home.outputs()):
            raise _damaged(home, "is empty" if database.exists() else "is gone")
        return
    try:
        with contextlib.closing(_connected(database)) as connection:
            [(verdict,)] = connection.execute("PRAGMA quick_check(1)").fetchall()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode not in UNUSABLE:
            raise MetadataDamaged(
                f"{database} cannot be used ({error}); check its folder and its disk"
            ) from error
        verdict = str(error)
    if verdict != "ok":
        raise _damaged(home, f"is damaged ({' '.join(verdict.split())})")


def settle_in(store: Store, home: Home, say: Callable[[str], None]) -> None:
    """Have the store of a home that was moved, copied or restored record where the home is now.

    TFX reads the paths that are recorded; those of a copy would lead it to the original.
    """
    if not home.shared and store.move(home):
        say(f"! the home was moved or copied; {home.database.name} now records its paths in {home}")


def end_executions(store: Store, home: Home) -> list[str]:
    """Mark every execution that is recorded as under way as failed and remove its files; the nodes' names."""
    ended = []
    for execution in store.active_executions():
        end_execution(store, home, execution)
        ended.append(store.node(execution.id).name or f"execution {execution.id}")
    return ended


def end_execution(store: Store, home: Home, execution: Execution) -> None:
    """Mark an execution whose process is gone as failed, and remove its files. Raises OSError."""
    for folder in home.outputs_of(execution.id):
        shutil.rmtree(folder)
        manifests.path_of(str(folder)).unlink(missing_ok=True)
    store.mark_failed(execution.id)


def set_unknown_aside(store: Store, home: Home) -> list[pathlib.Path]:
    """Rename outputs of executions that are newer than any in the store, as after going back to its copy.

    Their numbers will be given out again, and TFX would write among the files that are there.
    """
    execution = store.newest_execution()
    newest = execution.id if execution else 0
    found = [path for path in home.outputs() if int(path.name) > newest]
    for folder in found:
        set_aside(folder, UNKNOWN)
    return found


def delete_damaged(store: Store, home: Home) -> list[str]:
    """Set artifacts aside whose files are damaged, and record them as deleted; return a line for each.

    A model that serves is restored from its version instead. Of an output without a manifest nobody knows
    whether all of it reached the disk, so it counts as damaged; what a person decided is never set aside.

    The newest of their kind, which the next run is most likely to read, and after a failure all, are compared
    byte for byte, the others by names and sizes.
    """
    live = [artifact for artifact in store.live_artifacts() if artifact.local]
    newest = {os.path.dirname(artifact.uri): artifact.id for artifact in live}  # ids ascend
    last = store.newest_execution()
    suspicious = last is not None and last.state is State.FAILED
    lines = []
    for artifact in live:
        folder = pathlib.Path(artifact.uri)
        if folder.parent.parent.name.startswith(DECISIONS):
            continue
        found = "is gone"
        if folder.exists():
            thorough = suspicious or newest[os.path.dirname(artifact.uri)] == artifact.id
            wrong = manifests.damage(artifact.uri, thorough)
            if not wrong:
                continue
            found = f"is damaged ({wrong})"
        if artifact.kind == metadata.MODEL and (version := restore(home, artifact.uri)):
            lines.append(f"{folder} {found}; it was restored from {version}")
            continue
        if folder.exists():
            found = f"{found}, and now called {set_aside(folder, DAMAGED).name}"
        lines.append(f"{folder} {found}; it is made again if it is needed")
        store.mark_deleted(artifact)
    return lines


def restore(home: Home, uri: str) -> pathlib.Path | None:
    """Put the files of a model back from a version that is a whole copy of it.

    Returns the version's folder; None if there is no such version.
    """
    folder = pathlib.Path(uri)
    base = home.versions(folder.parent.parent.name.partition(".")[2])
    for number in reversed(published(str(base))):
        version = base / str(number)
        if not same_artifact(source(str(base), number), uri):
            continue
        try:
            listed = expected(str(version), uri)
        except ValueError:
            continue
        if not listed or manifests.compare(str(version), listed):
            continue
        staging = folder.with_name(f".{folder.name}.{RESTORING}")
        shutil.rmtree(staging, ignore_errors=True)
        for name in listed:
            target = pathlib.Path(path_utils.serving_model_path(str(staging)), name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(version / name, target)
        if folder.exists():
            set_aside(folder, DAMAGED)
        staging.rename(folder)
        manifests.write(uri)
        return version
    return None


def restore_serving(store: Store, home: Home) -> list[str]:
    """Restore the models that serve and are recorded as deleted; return a line for each.

    Without its artifact, a model that serves could not be the baseline of the next candidate.
    """
    lines = []
    for variant, versions in by_variant(str(home.serving)).items():
        uri = source(str(home.versions(variant)), versions[-1]) if versions else ""
        artifact = store.at(uri, metadata.MODEL) if uri else None
        if artifact and not artifact.live and (version := restore(home, artifact.uri)):
            store.mark_live(artifact)
            lines.append(f"{artifact.uri} was lost; it was restored from {version}")
    return lines


def adopt_versions(home: Home) -> None:
    """Give versions of 0.1 their manifest, if their files are those of the artifact they are a copy of.

    A version whose files differ is noted as such and not read again.
    """
    for variant, versions in by_variant(str(home.serving)).items():
        base = home.versions(variant)
        for number in set(versions) - unverified(str(base)):
            inside = base / str(number) / manifests.INSIDE
            if inside.exists():
                continue
            with contextlib.suppress(ValueError):
                listed = expected(str(inside.parent), home.here(source(str(base), number)))
                if listed and manifests.compare(str(inside.parent), listed):
                    note_unverified(str(base), number)
                elif listed:
                    manifests.put(inside, listed)


def remove_leftovers(home: Home) -> None:
    """Remove what a process was killed over: working folders, copies and files that never got their name."""
    staged = [path for path in home.serving.glob("*/.*") if STAGED.fullmatch(path.name)]
    pruned = home.artifacts.glob(f"*/*/*.{PRUNED}-*")
    restored = home.artifacts.glob(f"*/*/.*.{RESTORING}")
    for path in (*home.working_folders(), *staged, *pruned, *restored):
        shutil.rmtree(path)
    written = [path for folder in (home.folder, home.runs) for path in folder.glob(".*.json-*")]
    unnamed = [path for path in written if UNNAMED.fullmatch(path.name) and _age(path) > YOUNG]
    lists = home.artifacts.glob(f"*/*/.*{manifests.SUFFIX}")
    orphans = [path for path in lists if not path.with_name(manifests.folder_of(path.name)).is_dir()]
    half = [*home.artifacts.glob("*/*/.*.tmp"), *home.serving.glob("*/.*.tmp")]
    for path in (*unnamed, *orphans, *half, home.database_copy_staging):
        path.unlink(missing_ok=True)


def _damaged(home: Home, found: str) -> MetadataDamaged:
    database, copy = home.database, home.database_copy
    how = (
        f"`cp {copy} {database}` goes back to what the last run, promotion or rollback left"
        if copy.exists()
        else f"`mv {home} {home}.damaged` begins anew"
    )
    return MetadataDamaged(f"{database} {found}, though {home.artifacts} holds what runs have made; {how}")


def set_aside(folder: pathlib.Path, ending: str) -> pathlib.Path:
    """The folder's new name, beside the old one."""
    number = 1
    while (place := folder.with_name(f"{folder.name}.{ending}-{number}")).exists():
        number += 1
    folder.rename(place)
    manifests.path_of(str(folder)).unlink(missing_ok=True)
    return place


def _age(path: pathlib.Path) -> float:
    """Return the seconds since a file was last written; 0 if it is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _connected(database: pathlib.Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{urllib.parse.quote(str(database))}?mode=rw", uri=True)
