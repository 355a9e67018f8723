"""One run from settings to report: find the data, run every component, show what came of it."""

import contextlib
import datetime
import os
import pathlib
import tempfile
import time
from collections.abc import Iterator

import filelock
import platformdirs

from components import idx, sources
from pipeline.errors import HomeInUse, HomeNotWritable
from pipeline.quiet import quiet
from pipeline.settings import Settings

LOCK = ".lock"


def run(settings: Settings, verbose: bool = False) -> None:
    """Run the pipeline of `settings` in this process and print its leaderboard.

    Raises HomeInUse, HomeNotWritable, components.sources.DataSourceError and RunFailed.
    """
    started = time.perf_counter()
    home = pathlib.Path(settings.home)
    with exclusive(home):
        stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        log = home / "logs" / f"run-{stamp}.log"
        log.parent.mkdir(exist_ok=True)
        say(f"latentline: {', '.join(settings.variants)} | profile {settings.profile} | home {settings.home}")
        with quiet(str(log), verbose):
            rows = run_components(settings)
        seconds = time.perf_counter() - started
        say(f"\n{rows}\n\ndone in {seconds:.1f} s")
        say(f"report {home / 'report'}\nmodels {home / 'serving'}\nlog    {log}")


def run_components(settings: Settings) -> str:
    """Run the pipeline and put its report in place; the leaderboard as text."""
    dataset = locate(settings)
    # Imported only now: they take seconds, in which a mistake in the data would go untold.
    from pipeline import report
    from pipeline.local import LocalRunner
    from pipeline.pipeline import create_pipeline

    runner = LocalRunner(say)
    runner.run(create_pipeline(settings, dataset))
    if not runner.executions:  # `tfx pipeline create` asks for the pipeline without running it
        return "nothing was run"
    return report.publish(settings, runner.executions["Leaderboard"])


def locate(settings: Settings) -> sources.Dataset:
    """Where the data of the settings lies. Raises DataSourceError."""
    if settings.spans:
        folder = settings.data.rstrip("/")
        if not idx.is_remote(folder):
            folder = str(pathlib.Path(folder).expanduser().resolve())
        return sources.Dataset(os.path.basename(folder), folder, "")
    cache = pathlib.Path(platformdirs.user_cache_dir("latentline"))
    return sources.locate(settings.data, environment=os.environ, cache=cache, report=say)


def say(line: str) -> None:
    """A line for the user."""
    print(line, flush=True)


@contextlib.contextmanager
def exclusive(home: pathlib.Path) -> Iterator[None]:
    """Holds the home for this process. Raises HomeInUse or HomeNotWritable."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
        lock = filelock.FileLock(home / LOCK)
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise HomeInUse(
            f"another run is using {home}; wait for it to end, or give this one its own --home"
        ) from error
    except OSError as error:
        raise HomeNotWritable(
            f"cannot write to {home} ({error.strerror}); free the disk, or give another --home"
        ) from error
    try:
        yield
    finally:
        lock.release()
