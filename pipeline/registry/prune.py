"""Removes what runs of long ago made, so that a home that retrains every night does not fill its disk.

A run is kept whole or not at all, so that what is kept can be traced. Kept are the newest runs; the runs that
made what is in production, or what the next candidate will be compared with; and all that these took from the
cache. Blessings stay, for they are what says what is in production.
"""

import pathlib
import shutil
from typing import Any, NamedTuple

from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.components.evaluator import constants as evaluator
from tfx.dsl.compiler import constants
from tfx.types import standard_artifacts

from components.serving.versions import by_variant, source
from pipeline.home import manifests, recovery
from pipeline.home import metadata as graph
from pipeline.home.layout import Home
from pipeline.home.lock import exclusive
from pipeline.home.metadata import Graph
from pipeline.registry.production import Say, blessings, check_known

LAST_NODE = "Leaderboard"
"""A run that got as far counts; runs that failed before are neither counted nor a reason to remove others."""
FINISHED = (mlmd.Execution.COMPLETE, mlmd.Execution.CACHED)


class Pruned(NamedTuple):
    """What was removed, or would be."""

    artifacts: int
    size: int  # bytes

    def text(self) -> str:
        """In words."""
        return f"{self.artifacts:,} artifacts of old runs, {self.size / 1e6:,.1f} MB"


def prune(home: Home, runs: int, dry_run: bool, say: Say) -> Pruned:
    """Remove the artifacts of all but the newest `runs` runs, and what those and production need.

    Raises ProductionError, HomeInUse, HomeNotWritable and MetadataDamaged.
    """
    check_known(home)
    with exclusive(home):
        recovery.put_in_order(home, say)
        done = remove_old(home, runs, dry_run)
        if not dry_run:
            recovery.keep_copy(home)
    return done


def remove_old(home: Home, runs: int, dry_run: bool = False) -> Pruned:
    """As `prune`, for a process that holds the home's lock and found it in order."""
    with graph.opened(home) as (handle, found):
        store = handle.store
        first = _first_kept(found, store, runs)
        kept = _artifacts_of(store, {e.id for e in store.get_executions() if e.id >= first})
        for run in _runs_of_production(found, home):
            kept |= _artifacts_of(store, _executions_of(store, run))
        verdicts = store.get_artifacts_by_type(standard_artifacts.ModelBlessing.TYPE_NAME)
        kept |= {artifact.id for artifact in verdicts}
        old = [
            (artifact, pathlib.Path(artifact.uri))
            for artifact in store.get_artifacts()
            if artifact.id not in kept
            and artifact.state == mlmd.Artifact.LIVE
            and pathlib.Path(artifact.uri).is_relative_to(home.artifacts)
            and pathlib.Path(artifact.uri).exists()
        ]
        size = sum(sum(manifests.sizes(str(folder)).values()) for _, folder in old)
        if not dry_run:
            for artifact, folder in old:
                _remove(store, artifact, folder)
    return Pruned(len(old), size)


def _first_kept(found: Graph, store: Any, runs: int) -> int:
    """The number of the first execution of the newest `runs` runs that counted; 0 where there are fewer."""
    nodes = store.get_contexts_by_type(constants.NODE_CONTEXT_TYPE_NAME)
    last = [
        execution
        for node in nodes
        if node.name.endswith(f".{LAST_NODE}")
        for execution in store.get_executions_by_context(node.id)
        if execution.last_known_state in FINISHED
    ]
    if len(last) < runs:
        return 0
    oldest = sorted(last, key=lambda execution: execution.id)[-runs]
    return min(_executions_of(store, found.node(oldest).run))


def _runs_of_production(found: Graph, home: Home) -> set[str]:
    """Names of the runs that made the models of all versions, and those that the newest blessings name."""
    uris = {
        source(str(home.versions(variant)), version)
        for variant, versions in by_variant(str(home.serving)).items()
        for version in versions
    }
    kind = standard_artifacts.Model.TYPE_NAME
    newest: dict[str, str] = {}
    for blessing in blessings(found):
        uri = blessing.get_string_custom_property(evaluator.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY)
        newest[str(pathlib.Path(uri).parent)] = uri  # a variant's models lie in one folder
    models = [found.at(uri, kind) for uri in uris.union(newest.values()) if uri]
    return {found.node(found.maker(model)).run for model in models if model}


def _executions_of(store: Any, run: str) -> set[int]:
    context = store.get_context_by_type_and_name(constants.PIPELINE_RUN_CONTEXT_TYPE_NAME, run)
    return {execution.id for execution in store.get_executions_by_context(context.id)}


def _artifacts_of(store: Any, executions: set[int]) -> set[int]:
    """Numbers of the artifacts that the executions took in, put out, or took from the cache."""
    events = store.get_events_by_execution_ids(sorted(executions)) if executions else []
    return {event.artifact_id for event in events}


def _remove(store: Any, artifact: Any, folder: pathlib.Path) -> None:
    """Out of sight by one rename, recorded as deleted, then removed: what is cut off here is never read."""
    aside = recovery.set_aside(folder, recovery.PRUNED)
    artifact.state = mlmd.Artifact.DELETED
    store.put_artifacts([artifact])
    shutil.rmtree(aside)
