"""One run from settings to report: find the data, run every component, show what came of it."""

import os
import pathlib
import time
from collections.abc import Mapping

import platformdirs

from components.ingest import formats, idx, sources
from components.serving import versions
from pipeline.config import engines
from pipeline.config.errors import RunFailed
from pipeline.config.settings import Settings
from pipeline.execution import diagnosis
from pipeline.execution.quiet import quiet
from pipeline.home import journal
from pipeline.home.layout import Home
from pipeline.runs import failure
from pipeline.runs.record import beating, recorded
from schemas import TEST_SPLIT, TRAIN_SPLIT


def run(settings: Settings, verbose: bool = False) -> None:
    """Run the pipeline of `settings` in this process and print its leaderboard.

    Raises SettingsError where the job server of an engine does not answer, HomeInUse, HomeNotWritable,
    components.ingest.sources.DataSourceError and RunFailed.
    """
    started = time.perf_counter()
    home = Home.of(settings.home)
    with recorded(settings, say) as writer:
        log = writer.record.log
        home.logs.mkdir(exist_ok=True)
        try:
            engines.check_reachable(settings.beam_arguments)
            dataset = locate(settings)
            say(f"latentline: {described(dataset, settings)}")
            seeds = f" | seeds {', '.join(map(str, settings.seeds))}" if settings.seeds else ""
            asked = f"{', '.join(settings.variants)} | profile {settings.profile}{seeds}"
            say(f"{asked} | home {settings.home}")
            with quiet(log, verbose):
                rows = run_components(settings, dataset, writer, verbose)
        except RunFailed as failed:
            if failed.leaderboard:
                say(f"\n{failed.leaderboard}\n\nreport {home.report}\nlog    {log}")
            else:
                publish_failure(home, writer, str(failed))
            raise
        except sources.DataSourceError as error:
            publish_failure(home, writer, str(error))
            raise
        except Exception as error:
            publish_failure(home, writer, diagnosis.explain(error, settings.home))
            if words := diagnosis.of_the_disk(error, settings.home):
                raise RunFailed(words) from error
            raise
        if not rows:
            say("the pipeline was created; nothing was run")
            return
        seconds = time.perf_counter() - started
        say(f"\n{rows}\n\ndone in {seconds:.1f} s")
        say(f"report {home.report}\nmodels {home.serving}\nlog    {log}")


def run_components(
    settings: Settings, dataset: sources.Dataset, writer: journal.Writer, verbose: bool = False
) -> str:
    """Run the pipeline, put its report in place, and return the leaderboard as text; note what came of it.

    Nothing is run, and the text is empty, where `tfx pipeline create` asks for the pipeline alone.
    """
    # Imported only now: they take seconds, in which a mistake in the data would go untold.
    from pipeline.execution import capacity
    from pipeline.execution.local import LocalRunner
    from pipeline.home import recovery
    from pipeline.pipeline import create_pipeline
    from pipeline.registry import production, prune
    from pipeline.runs import account

    home = Home.of(settings.home)
    production.put_in_order(home, say)
    runner = LocalRunner(say, settings.jobs or capacity.jobs(), moving=not verbose, begins=writer.beat)
    before = versions.by_variant(str(home.serving))
    try:
        with beating(writer):
            runner.run(create_pipeline(settings, dataset))
    except RunFailed as failed:
        if "Leaderboard" in runner.executions:
            failed.leaderboard = publish(settings, runner.executions, writer)
            recovery.keep_copy(home)
        raise
    finally:
        account.settle(writer, settings, runner, before, say)
    if not runner.executions:
        writer.discard()
        return ""
    table = publish(settings, runner.executions, writer)
    if settings.keep_runs:
        pruned = prune.remove_old(home, settings.keep_runs)
        if pruned.artifacts or pruned.pages:
            say(f"- removed {pruned.text()}")
    recovery.keep_copy(home)
    return table


def publish(settings: Settings, executions: Mapping[str, int], writer: journal.Writer) -> str:
    """Put the run's report in place, and its results where the settings want them logged; the leaderboard."""
    from pipeline.runs import report, tracking

    home = Home.of(settings.home)
    table = report.publish(home, executions["Leaderboard"], writer.record.stamp)
    writer.note(report=str(home.report))
    if settings.mlflow:
        tracking.publish(settings, executions, writer.record.stamp, say)
    return table


def publish_failure(home: Home, writer: journal.Writer, error: str) -> None:
    """Put the page of a failed run in place; what prevents that is reported and hides no other error."""
    try:
        failure.publish(home, writer.record, error)
    except Exception as problem:
        say(f"! the page of this run cannot be written: {diagnosis.explain(problem, str(home))}")
    else:
        writer.note(report=str(home.report))
        say(f"report {home.report}")


def locate(settings: Settings) -> sources.Dataset:
    """Where the data of the settings lies. Raises DataSourceError."""
    if settings.spans:
        folder = settings.data.rstrip("/")
        if not idx.is_remote(folder):
            folder = str(pathlib.Path(folder).expanduser().resolve())
        return sources.named(sources.Dataset(settings.dataset, folder), settings.spans)
    cache = pathlib.Path(platformdirs.user_cache_dir("latentline"))
    found = sources.locate(
        settings.data,
        environment=os.environ,
        cache=cache,
        report=say,
        subset=settings.subset,
        no_digits=lambda: no_digits(Home.of(settings.home)),
    )
    return found._replace(name=settings.dataset or found.name)


def no_digits(home: Home) -> str:
    """Return why the embedded digits may not take the place of MNIST in a home; empty if they may.

    A model of the digits and one of other data cannot be compared, and must not replace each other.
    """
    from pipeline.registry import data

    other = {name: made for name, made in data.of_production(home).items() if made != sources.DIGITS}
    if not other:
        return ""
    listed = ", ".join(f"{name} of {made}" for name, made in sorted(other.items()))
    return (
        f"and the digits of scikit-learn cannot take the place of MNIST where models of other data serve "
        f"({listed}); give a folder of that data with --data DIR, or another --home"
    )


def described(dataset: sources.Dataset, settings: Settings) -> str:
    """Return the name of the data, its numbers of images and its place, in a line.

    The numbers are those of the files' headers. They are left out if a file cannot be read: the component
    that reads the files has the error.
    """
    named = sources.title(dataset.name)
    try:
        found, places = _found(dataset, settings)
        counts = {split: sum(formats.count(parts[split]) for parts in found) for split in found[0]}
        counts[TEST_SPLIT] = formats.count(found[0][TEST_SPLIT])
    except idx.IdxError:
        return f"{named} from {dataset.folder}"
    train, test = counts[TRAIN_SPLIT], counts[TEST_SPLIT]
    return f"{named}, {train:,} training and {test:,} test images from {dataset.folder}{places}"


def _found(dataset: sources.Dataset, settings: Settings) -> tuple[list[dict[str, formats.Part]], str]:
    """Return the files of each span by split, newest first, and the spans' names. Raises idx.IdxError."""
    if not settings.spans:
        return [formats.find(dataset.folder, settings.subset)], ""
    from components.ingest import spans  # imports TensorFlow

    chosen = spans.newest_spans(dataset.folder, settings.spans, settings.subset)
    names = ", ".join(span.folder for span in chosen)
    return spans.delivered(dataset.folder, chosen, settings.subset), f" ({names})"


def say(line: str) -> None:
    """A line for the user."""
    print(line, flush=True)
