"""What came of a run, variant by variant: from the runner, the metadata store and the serving folder."""

import logging
from collections.abc import Callable, Collection, Mapping

from components.ingest.example_gen import SEPARATOR, WINDOW
from components.reporting.results import why_not
from components.validation import drift
from pipeline.config.settings import Settings
from pipeline.dag.partial import variant
from pipeline.execution import diagnosis
from pipeline.execution.local import LocalRunner
from pipeline.home import metadata
from pipeline.home.journal import CACHED, FAILED, LEFT_OUT, PUSHED, REFUSED, Entry, Outcome
from pipeline.home.layout import Home
from pipeline.home.metadata import Artifact, Blessing, Push

log = logging.getLogger(__name__)


def settle(
    entry: Entry,
    settings: Settings,
    runner: LocalRunner,
    before: Mapping[str, Collection[int]],
    say: Callable[[str], None],
) -> None:
    """Enter spans, drift and the outcome of each variant, after a run that went well or did not.

    before: the versions by variant when the run began. What cannot be found out is said, for it must not take
    the place of the error that the run may have ended with.
    """
    if not runner.executions and not runner.failures:
        return
    try:
        with metadata.opened(Home.of(settings.home)) as store:
            outputs = {
                name: {key: given[0] for key, given in store.outputs(execution).items()}
                for name, execution in runner.executions.items()
                if execution
            }
        entry.spans = spans(outputs.get("IdxExampleGen", {}))
        if found := outputs.get("DriftValidator", {}).get("anomalies"):
            entry.drift = drift.descriptions(found.uri)
        for name in settings.variants:
            entry.variants[name] = outcome(name, outputs, runner.failures, before.get(name, ()))
    except Exception as error:
        log.exception("what came of the run cannot be found out")
        say(f"! what came of each variant cannot be found out: {diagnosis.explain(error, settings.home)}")


def spans(outputs: Mapping[str, Artifact]) -> list[str]:
    """The folders of the data's spans, newest first, by IdxExampleGen's outputs; empty without spans."""
    examples = outputs.get("examples")
    window = examples.text(WINDOW) if examples else ""
    return window.split(SEPARATOR) if window else []


def outcome(
    name: str,
    outputs: Mapping[str, Mapping[str, Artifact]],
    failures: Mapping[str, str],
    before: Collection[int],
) -> Outcome:
    """What came of the variant `name`. outputs: of each node, by key; before: versions there were."""
    push = outputs.get(f"Pusher.{name}", {}).get("pushed_model")
    if not isinstance(push, Push):
        mine = [message for node, message in failures.items() if variant(node) == name and message]
        shared = [message for node, message in failures.items() if not variant(node) and message]
        if mine:
            return Outcome(FAILED, why=mine[0])
        return Outcome(LEFT_OUT, why=shared[0] if shared else "the run ended before")
    if push.version is not None:
        return Outcome(CACHED if push.version in before else PUSHED, version=push.version)
    evaluated = outputs.get(f"Evaluator.{name}", {})
    blessing = evaluated.get("blessing")
    if isinstance(blessing, Blessing) and blessing.blessed:
        return Outcome(REFUSED, why="its model was blessed, but not pushed")
    return Outcome(
        REFUSED, why=why_not(evaluated["evaluation"].uri, name) if "evaluation" in evaluated else ""
    )
