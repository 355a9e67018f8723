"""Real homes, real processes and what watches them; and the table of what was tried.

A home's runs are forks of a process that has imported everything (tests/support/warm.py) or, where the
environment matters, the command itself. A reader looks at the serving folder all the time.
"""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from warm import SECONDS, Child, Warm

from components.serving.manifests import INSIDE
from components.serving.versions import WITHDRAWN

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
VARIANT = "linear"
STEPS = 400
"""Of the smoke profile."""
CARDS = {"model_card.json", "model_card.md"}
"""Files that the Leaderboard adds to a version after it was pushed."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of `make faults-all`."""
    parser.addoption(
        "--real-processes", action="store_true", help="strike each operation in a process of its own"
    )


class Reader(threading.Thread):
    """Looks at a serving folder all the time, as a model server would, and compares what it finds."""

    def __init__(self, serving: pathlib.Path, root: pathlib.Path = pathlib.Path("/")) -> None:
        """root: where the paths that versions name begin, as this process sees them."""
        super().__init__(daemon=True)
        self._serving, self._root, self._ended = serving, root, threading.Event()
        self.whole: dict[str, dict[str, str]] = {}
        """Version folder -> digests of its files when it was first seen."""
        self.partial: list[str] = []
        self.looks = 0
        self.start()

    def run(self) -> None:
        while not self._ended.is_set():
            self.look()
            time.sleep(0.001)

    def look(self) -> None:
        self.looks += 1
        for version in sorted(self._serving.glob("*/*")):
            if version.name.isdecimal() and str(version) not in self.whole:
                found = digests(version)
                source = pathlib.Path(found.pop("latentline_source.txt", ("", ""))[1] or "/nonexistent")
                whole = self._root.joinpath(*source.parts[1:]) / "Format-Serving"
                listed = found.pop(INSIDE, None)  # the version's own manifest is there from the start
                if not found or not listed or found != digests(whole):
                    self.partial.append(f"{version}: {sorted(found)}")
                self.whole[str(version)] = found

    def stop(self) -> None:
        self._ended.set()
        self.join()
        self.look()


def digests(folder: pathlib.Path) -> dict[str, Any]:
    """Relative path -> digest of every file, model cards left out; of a small text the text as well."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in CARDS and not path.name.startswith("."):
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            found[str(path.relative_to(folder))] = (
                (digest, content.decode()) if path.suffix == ".txt" else digest
            )
    return found


class Home:
    """A home and what may be done to it."""

    def __init__(self, folder: pathlib.Path, data: pathlib.Path, warm: Warm) -> None:
        self.folder, self.data, self.warm = folder, data, warm
        self.nights = 0
        self.jobs = 1

    @property
    def artifacts(self) -> pathlib.Path:
        return self.folder / "artifacts"

    @property
    def serving(self) -> pathlib.Path:
        return self.folder / "serving"

    @property
    def database(self) -> pathlib.Path:
        return self.folder / "metadata.db"

    def arguments(self, *more: str) -> list[str]:
        given = {"variants": VARIANT, "profile": "smoke", "data": self.data, "home": self.folder}
        given["jobs"] = self.jobs
        return ["run", *(f"--{key}={value}" for key, value in given.items()), *self._longer(), *more]

    def _longer(self) -> list[str]:
        """Training that is twice as long with every night, so that it ends with another and better model."""
        if not self.nights:
            return []
        settings = self.folder.with_name(f"{self.folder.name}-{self.nights}.yaml")
        settings.write_text(f"experiments: {{{VARIANT}: {{recipe: {{steps: {STEPS << self.nights}}}}}}}\n")
        return [f"--settings={settings}"]

    def start(self, *more: str) -> Child:
        return self.warm.start(self.arguments(*more))

    def run(self, *more: str) -> Child:
        """A run that has to complete."""
        return self.start(*more).fine()

    def command(self, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """The command itself, imports and all."""
        return subprocess.run(
            [sys.executable, "-m", "pipeline", *self.arguments(*more)],
            env={**os.environ, "PYTHONPATH": str(self.warm.sources), **environment},
            capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip

    def versions(self) -> list[int]:
        folder = self.serving / VARIANT
        return (
            sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())
            if folder.exists()
            else []
        )

    def output(self, node: str, key: str) -> pathlib.Path:
        """The newest folder that the node put out under that key."""
        numbers = [
            int(path.name) for path in (self.artifacts / node / key).iterdir() if path.name.isdecimal()
        ]
        return self.artifacts / node / key / str(max(numbers))

    def check(self) -> None:
        """ML Metadata is consistent with itself and with what is on disk, and nothing is left over."""
        from ml_metadata.proto import metadata_store_pb2 as mlmd
        from tfx.orchestration import metadata

        from components.serving import manifests

        with metadata.Metadata(metadata.sqlite_metadata_connection_config(str(self.database))) as handle:
            executions = {e.id: e for e in handle.store.get_executions()}
            artifacts = handle.store.get_artifacts()
            events = handle.store.get_events_by_artifact_ids([artifact.id for artifact in artifacts])
        ended = {mlmd.Execution.COMPLETE, mlmd.Execution.CACHED, mlmd.Execution.FAILED}
        assert {e.last_known_state for e in executions.values()} <= ended
        for artifact in artifacts:
            if artifact.state == mlmd.Artifact.LIVE:
                assert pathlib.Path(artifact.uri).is_dir(), artifact.uri
                assert manifests.path_of(artifact.uri).exists(), artifact.uri
                assert manifests.damage(artifact.uri, thorough=True) == "", artifact.uri
        good = {mlmd.Execution.COMPLETE, mlmd.Execution.CACHED}
        for event in events:
            assert event.type != mlmd.Event.OUTPUT or executions[event.execution_id].last_known_state in good
        known = {artifact.uri for artifact in artifacts}
        outputs = {
            str(p) for p in self.artifacts.glob("*/*/*") if p.name.isdecimal() and p.parent.name != ".system"
        }
        assert outputs <= known
        assert {path.name for path in self.serving.glob("*/.*")} <= {WITHDRAWN}
        assert not list(self.artifacts.glob("*/.system/stateful_working_dir/*"))

    def snapshot(self) -> "Snapshot":
        return Snapshot(self)


class Snapshot:
    """A home as it was, to be put back under the same path; and what of it must not be lost."""

    def __init__(self, home: Home) -> None:
        self._home, self._kept = home, home.folder.with_name(f"{home.folder.name}.snapshot")
        shutil.copytree(home.folder, self._kept, symlinks=True)
        self.pushed = {str(path): digests(path) for path in home.serving.glob("*/*")}

    def restore(self) -> None:
        shutil.rmtree(self._home.folder)
        shutil.copytree(self._kept, self._home.folder, symlinks=True)

    def lost(self) -> int:
        """Pushed versions that are not what they were."""
        return sum(digests(pathlib.Path(path)) != files for path, files in self.pushed.items())


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="session")
def sources(scratch: pathlib.Path) -> pathlib.Path:
    """A copy of the sources: whoever edits them meanwhile would make components run again."""
    for package in ("schemas", "components", "trainer", "pipeline"):
        shutil.copytree(ROOT / package, scratch / "sources" / package)
    return scratch / "sources"


@pytest.fixture(scope="session")
def warm(scratch: pathlib.Path, sources: pathlib.Path) -> Iterator[Warm]:
    process = Warm(scratch / "warm", sources)
    yield process
    process.close()


@pytest.fixture(scope="session")
def mounting(scratch: pathlib.Path, sources: pathlib.Path) -> Iterator[Warm]:
    """A process that may mount, in a namespace of its own: no one else sees it, and it goes with it."""
    folder = scratch / "mount"
    folder.mkdir()
    for options in (("-m",), ("-r", "-m")):
        command = ["unshare", *options, "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
        if (
            shutil.which("unshare")
            and subprocess.run(command, capture_output=True, check=False).returncode == 0
        ):
            process = Warm(scratch / "mounting", sources, prefix=("unshare", *options))
            yield process
            process.close()
            return
    pytest.skip("no small disk can be mounted here: it takes root, or `unshare -r -m` to be allowed")


@pytest.fixture
def new_home(tmp_path: pathlib.Path, digits_folder: pathlib.Path) -> Callable[..., Home]:
    """Makes a home; of the test's own folder, with a process to run it by."""

    def make(warm: Warm, name: str = "home", data: pathlib.Path | None = None) -> Home:
        return Home(tmp_path / name, data or digits_folder, warm)

    return make


@pytest.fixture(scope="session")
def ready(scratch: pathlib.Path, digits_folder: pathlib.Path, warm: Warm) -> tuple[Home, Snapshot]:
    """A home after one run that completed, and its snapshot."""
    home = Home(scratch / "ready", digits_folder, warm)
    home.run()
    home.check()
    return home, home.snapshot()


@pytest.fixture
def finished(ready: tuple[Home, Snapshot]) -> tuple[Home, Snapshot]:
    """That home, as it was after its run."""
    home, snapshot = ready
    snapshot.restore()
    home.nights = 0
    return home, snapshot


@pytest.fixture(scope="session")
def make_reader() -> type[Reader]:
    return Reader


@pytest.fixture(scope="session")
def make_home() -> type[Home]:
    return Home
