"""Removes what runs of long ago made, so that a home that retrains every night does not fill its disk.

A run is kept whole or not at all, so that what is kept can be traced. Kept are the newest runs; the runs that
made what is in production, what the next candidate will be compared with, or what nights are measured from;
and all that these took from the cache. Blessings stay, for they are what says what is in production, and so
does the newest record of the gate.
"""

import pathlib
import shutil
from typing import NamedTuple

from components.evaluation import nights
from components.serving import manifests
from components.serving.versions import by_variant, source
from pipeline.home import archive, metadata, recovery
from pipeline.home.layout import Home
from pipeline.home.lock import exclusive
from pipeline.home.metadata import Artifact, Store
from pipeline.registry import alarms
from pipeline.registry.production import Say, check_known, put_in_order

LAST_NODE = "Leaderboard"
"""A run that got as far counts; runs that failed before are neither counted nor a reason to remove others."""


class Pruned(NamedTuple):
    """What was removed, or would be."""

    artifacts: int
    size: int  # bytes, of the artifacts
    pages: int = 0  # archived reports

    def text(self) -> str:
        """Return what was removed, in words."""
        pages = f" and {self.pages:,} reports" if self.pages else ""
        return f"{self.artifacts:,} artifacts{pages} of old runs, {self.size / 1e6:,.1f} MB"


def prune(home: Home, runs: int, dry_run: bool, say: Say) -> Pruned:
    """Remove the artifacts of all but the newest `runs` runs, and what those and production need.

    Raises ProductionError, HomeInUse, HomeNotWritable and MetadataDamaged.
    """
    check_known(home)
    with exclusive(home):
        put_in_order(home, say)
        done = remove_old(home, runs, dry_run)
        if not dry_run:
            recovery.keep_copy(home)
    return done


def remove_old(home: Home, runs: int, dry_run: bool = False) -> Pruned:
    """As `prune`, for a process that holds the home's lock and found it in order."""
    with metadata.opened(home) as store:
        first = _first_kept(store, runs)
        kept = store.artifacts_of({e.id for e in store.executions() if e.id >= first})
        for run in _runs_of_production(store, home):
            kept |= store.artifacts_of({e.id for e in store.executions_of_run(run)})
        kept |= {blessing.id for blessing in store.blessings()}
        for newest in alarms.newest(store).values():
            kept.add(newest.artifact.id)
            for anchor in newest.record.anchors:
                run = store.node(store.maker(store.artifact(anchor.model)).id).run
                kept |= store.artifacts_of({e.id for e in store.executions_of_run(run)})
        old = [
            artifact
            for artifact in store.live_artifacts()
            if artifact.id not in kept
            and not _by_person(artifact)
            and pathlib.Path(artifact.uri).is_relative_to(home.artifacts)
            and pathlib.Path(artifact.uri).exists()
        ]
        size = sum(sum(manifests.sizes(artifact.uri).values()) for artifact in old)
        if not dry_run:
            for artifact in old:
                _remove(store, artifact)
    pages = archive.outdated(home, runs)
    if not dry_run:
        for folder in pages:
            shutil.rmtree(folder)
    return Pruned(len(old), size, len(pages))


def _by_person(artifact: Artifact) -> bool:
    """Return whether an artifact is what a person's decision gave; the gate's order of nights needs all."""
    return pathlib.Path(artifact.uri).parent.parent.name.startswith(nights.BY_PERSONS)


def _first_kept(store: Store, runs: int) -> int:
    """Return the id of the first execution of the newest `runs` runs that counted; 0 if there are fewer."""
    last = [
        execution
        for pipeline in store.pipelines()
        for execution in store.executions_of_node(pipeline, LAST_NODE)
        if execution.state.succeeded
    ]
    if len(last) < runs:
        return 0
    oldest = sorted(last, key=lambda execution: execution.id)[-runs]
    return min(execution.id for execution in store.executions_of_run(store.node(oldest.id).run))


def _runs_of_production(store: Store, home: Home) -> set[str]:
    """Return the names of the runs that made the models of all versions and those of the newest blessings."""
    uris = {
        source(str(home.versions(variant)), version)
        for variant, versions in by_variant(str(home.serving)).items()
        for version in versions
    }
    newest: dict[str, str] = {}
    for blessing in store.blessings():
        if blessing.blessed and blessing.live:  # a variant's models lie in one folder
            newest[str(pathlib.Path(blessing.model_uri).parent)] = blessing.model_uri
    models = [store.at(uri, metadata.MODEL) for uri in uris.union(newest.values()) if uri]
    return {store.node(store.maker(model).id).run for model in models if model}


def _remove(store: Store, artifact: Artifact) -> None:
    """Remove an artifact: out of sight by one rename, recorded as deleted, then removed.

    What is cut off here is never read.
    """
    aside = recovery.set_aside(pathlib.Path(artifact.uri), recovery.PRUNED)
    store.mark_deleted(artifact)
    shutil.rmtree(aside)
