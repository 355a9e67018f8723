"""What lies where under a home, the folder that holds everything a run makes."""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any


@dataclasses.dataclass(frozen=True)
class Shared:
    """What the home of a cluster shares with the tasks of its runs, wherever they run.

    Attributes:
      serving: folder that holds a folder of versions for each variant, on a volume.
      connection: of the metadata store, as ML Metadata takes it.
    """

    serving: pathlib.Path
    connection: Any = dataclasses.field(compare=False, repr=False)


@dataclasses.dataclass(frozen=True)
class Home:
    """A home. Every path under it is spelled here and nowhere else.

    Attributes:
      folder: its absolute path.
      shared: of the home of a cluster. Such a home holds the journal and what people decided; artifacts of
        runs lie in the cluster's pipeline root, and locks in the metadata store take the lock file's place.
    """

    folder: pathlib.Path
    shared: Shared | None = None

    @classmethod
    def of(cls, path: str | pathlib.Path) -> "Home":
        """Return the home at `path`, made absolute. Raises ValueError for a path that cannot be resolved."""
        try:
            return cls(pathlib.Path(path).expanduser().resolve())
        except (
            RuntimeError,
            OSError,
            ValueError,
        ) as error:
            raise ValueError(f"home {str(path)!r} cannot be found ({error})") from error

    @classmethod
    def of_cluster(cls, serving: str, connection: Any) -> "Home":
        """Return the home of a cluster that pushes to `serving`. connection: of its metadata store."""
        place = pathlib.Path(serving)
        return cls(place / OF_CLUSTER, Shared(place, connection))

    def __str__(self) -> str:
        return str(self.shared.serving if self.shared else self.folder)

    @property
    def database(self) -> pathlib.Path:
        """Return the file of ML Metadata."""
        return self.folder / "metadata.db"

    @property
    def database_copy(self) -> pathlib.Path:
        """Return the copy of the metadata that the last run, promotion or rollback left."""
        return self.folder / "metadata.db.bak"

    @property
    def metadata_lock(self) -> pathlib.Path:
        """Return the file that a process of a run holds locked while it uses ML Metadata."""
        return self.folder / ".metadata.lock"

    @property
    def database_copy_staging(self) -> pathlib.Path:
        """Return the file that the copy of the metadata is written to before it gets its name."""
        return self.folder / "metadata.db.bak.tmp"

    @property
    def artifacts(self) -> pathlib.Path:
        """Return TFX's pipeline root."""
        return self.folder / "artifacts"

    @property
    def serving(self) -> pathlib.Path:
        """Return the folder that holds a folder of versions for each variant."""
        return self.shared.serving if self.shared else self.folder / "serving"

    @property
    def report(self) -> pathlib.Path:
        """Return the folder of the newest report."""
        return self.folder / "report"

    @property
    def report_staging(self) -> pathlib.Path:
        """Return the folder in which the next report is copied before it gets its name."""
        return self.folder / ".report"

    @property
    def report_archive(self) -> pathlib.Path:
        """Return the folder that holds the report of each run."""
        return self.report / ARCHIVE

    @property
    def report_cards(self) -> pathlib.Path:
        """Return the folder of the report that holds a model card for each variant."""
        return self.report / CARDS

    @property
    def report_scores(self) -> pathlib.Path:
        """Return the folder of the report that holds the scores of each model on the test images."""
        return self.report / SCORES

    @property
    def logs(self) -> pathlib.Path:
        """Return the folder of the logs of runs and of the schedule's service."""
        return self.folder / "logs"

    @property
    def runs(self) -> pathlib.Path:
        """Return the folder of the journal."""
        return self.folder / "runs"

    @property
    def lock(self) -> pathlib.Path:
        """Return the file that whoever changes the home holds locked."""
        return self.folder / ".lock"

    @property
    def intent(self) -> pathlib.Path:
        """Return the file that says which promotion or rollback is under way."""
        return self.folder / "intent.json"

    @property
    def schedule(self) -> pathlib.Path:
        """Return the file in which the schedule's service keeps its state."""
        return self.folder / "schedule.json"

    @property
    def schedule_lock(self) -> pathlib.Path:
        """Return the file that the schedule's service holds locked."""
        return self.folder / ".schedule.lock"

    @property
    def schedule_log(self) -> pathlib.Path:
        """Return the log of the schedule's service."""
        return self.logs / "schedule.log"

    @property
    def command_log(self) -> pathlib.Path:
        """Return the log of what went wrong in commands other than runs."""
        return self.logs / "commands.log"

    def versions(self, variant: str) -> pathlib.Path:
        """Return the folder of the pushed versions of a variant."""
        return self.serving / variant

    def run_log(self, stamp: str) -> pathlib.Path:
        """Return the log of the run that began at `stamp`."""
        return self.logs / f"run-{stamp}.log"

    def report_of(self, stamp: str) -> pathlib.Path:
        """Return the folder of the archived report of the run that began at `stamp`."""
        return self.report_archive / stamp

    def record(self, stamp: str) -> pathlib.Path:
        """Return the file of the journal for the run, promotion or rollback that began at `stamp`."""
        return self.runs / f"{stamp}.json"

    def records(self) -> list[pathlib.Path]:
        """Return the files of the journal, by name."""
        return sorted(self.runs.glob("[0-9]*.json"))

    def outputs(self) -> Iterator[pathlib.Path]:
        """Yield the output folders of all executions: <artifacts>/<node>/<output key>/<execution>."""
        return (path for path in self.artifacts.glob("*/*/*") if path.name.isdecimal())

    def outputs_of(self, execution: int) -> list[pathlib.Path]:
        """Return the folders that belong to an execution: its outputs and TFX's own beside them."""
        return [
            *self.artifacts.glob(f"*/*/{execution}"),
            *self.artifacts.glob(f"*/.system/*/{execution}"),
        ]

    def output(self, node: str, key: str, execution: int) -> pathlib.Path:
        """Return the folder of one output of an execution."""
        return self.artifacts / node / key / str(execution)

    def here(self, path: str) -> str:
        """Return where an artifact or version lies whose path may name the place that the home had before.

        `/old/home/artifacts/Trainer.mlp/model/16` becomes `<home>/artifacts/Trainer.mlp/model/16`. A path of
        neither an artifact nor a version is returned as it is, and so is one on an object store, or of the
        home of a cluster, whose artifacts lie elsewhere.
        """
        parts = path.rstrip("/").split("/")
        if self.shared or not path.startswith("/") or not parts[-1].isdecimal():
            return path
        if parts[-4:-3] == [self.artifacts.name]:
            return str(self.artifacts.joinpath(*parts[-3:]))
        if parts[-3:-2] == [self.serving.name]:
            return str(self.serving.joinpath(*parts[-2:]))
        return path

    def working_folders(self) -> Iterator[pathlib.Path]:
        """Yield the folders in which executors keep what they need until they have finished."""
        return self.artifacts.glob("*/.system/stateful_working_dir/*")


OF_CLUSTER = ".latentline"
"""Name of the folder beside the versions that is the home of a cluster; model servers and we skip it."""
ARCHIVE = "runs"
"""Name of the folder of a report that holds those of all runs."""
PAGE = "index.html"
"""Name of a report's page."""
FIGURES = "leaderboard.json"
"""Name of a report's leaderboard, which the page of a run that failed is without."""
CARDS = "cards"
"""Name of the folder of a report, in the home or in an artifact, that holds a model card for each variant."""
SCORES = "scores"
"""Name of the folder of a report that holds a Parquet file of scores for each model."""
