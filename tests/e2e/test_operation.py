"""Models change in production: pushed, refused, promoted, rolled back, and who is compared with whom then."""

import contextlib
import getpass
import hashlib
import io
import json
import pathlib
import shutil
import signal
import time
from collections.abc import Callable

import pytest
import yaml
from tallies import Section
from warm import Warm

from components.serving.versions import published, source
from pipeline import cli
from pipeline.home import journal, layout

pytestmark = [pytest.mark.e2e, pytest.mark.long]
USER = getpass.getuser()


class Home:
    """A home, and the commands on it."""

    def __init__(self, folder: pathlib.Path, data: pathlib.Path, warm: Warm) -> None:
        self.folder, self.data, self.warm = folder, data, warm
        self.told = folder.parent / "told"
        self.serving = str(folder / "serving" / "linear")

    def command(self, *arguments: object) -> tuple[object, str, str]:
        """Exit code, output and errors of a command that needs no process of its own."""
        out, errors = io.StringIO(), io.StringIO()
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(errors),
            pytest.raises(SystemExit) as ended,
        ):
            cli.main([*map(str, arguments)])
        return ended.value.code, out.getvalue(), errors.getvalue()

    def run(self, steps: int, *options: object, code: int = 0, until: str | None = None) -> journal.RunRecord:
        """Train `linear` for so many steps, or until a line begins so; the record in the journal."""
        settings = self.folder.parent / "settings.yaml"
        hook = f"sh -c 'echo $LATENTLINE_EVENT >> {self.told}'"
        chosen = {
            "variants": ["linear"], "profile": "smoke", "data": str(self.data), "home": str(self.folder),
            "jobs": 1,
            "experiments": {"linear": {"recipe": {"steps": steps, "floor": 0.0}}},
            "notify": {"on_push": hook, "on_failure": hook},
        }  # fmt: skip
        settings.write_text(yaml.safe_dump(chosen))
        child = self.warm.start(["run", "--settings", settings, *options])
        while until and until not in child.out and not child.gone.is_set():
            time.sleep(0.01)
        if until:
            child.kill(signal.SIGTERM)
        assert child.wait().code == code, child.out + child.err
        self.lines = child.out.splitlines()
        return journal.read(layout.Home.of(self.folder))[-1]

    def change(self, *arguments: object) -> str:
        code, out, errors = self.command(*arguments, "--home", self.folder)
        assert code == 0, errors
        return out

    def refused(self, *arguments: object) -> str:
        code, out, errors = self.command(*arguments, "--home", self.folder)
        assert code == 1, out
        [line] = [line for line in errors.splitlines() if line.startswith("latentline: error: ")]
        return line

    def lineage(self, model: object) -> dict:
        return json.loads(self.change("lineage", model, "--json"))

    def versions(self) -> list[int]:
        return published(self.serving)

    def sources(self) -> list[str]:
        return [source(self.serving, version) for version in self.versions()]


def outcome(record: journal.RunRecord) -> tuple[journal.Result, int]:
    return record.variants["linear"].result, record.variants["linear"].version


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, digits_folder: pathlib.Path, warm: Warm) -> Home:
    """After two runs, of which the second pushed a better model."""
    home = Home(tmp_path_factory.mktemp("operation") / "home", digits_folder, warm)
    first, second = home.run(200), home.run(400)
    assert first.variants["linear"].result == second.variants["linear"].result == journal.Result.PUSHED
    assert home.versions() == [first.variants["linear"].version, second.variants["linear"].version]
    return home


def test_a_push_is_told_to_the_hook(home: Home) -> None:
    assert home.told.read_text().split() == ["push", "push"]


def test_the_second_candidate_was_compared_with_the_first_model(home: Home) -> None:
    first, second = (home.lineage(f"{home.serving}/{version}") for version in home.versions())
    assert first["compared_with"] is None
    assert second["compared_with"]["id"] == first["model"]["id"]
    assert second["compared_with"]["versions"] == [home.versions()[0]]


def test_the_lineage_of_a_version_says_what_it_is_made_of(home: Home) -> None:
    facts = home.lineage(home.serving)
    assert facts == home.lineage(f"{home.serving}/{home.versions()[-1]}") == home.lineage("linear")
    assert facts == home.lineage(facts["model"]["path"])
    assert facts["data"]["folder"] == str(home.data)
    assert facts["data"]["images"] == {"train": 400, "eval": 120}
    assert sorted(facts["data"]["files"].splitlines()) == sorted(
        f"{path.name} sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in home.data.iterdir()
    )
    training = facts["training"]
    assert (training["steps"], training["seed"], training["profile"]) == (400, 0, "smoke")
    assert training["recipe"] == {"steps": 400, "floor": 0.0}
    metric = facts["metrics"]["accuracy"]
    assert metric["lower"] < metric["value"] < metric["upper"]
    [verdict], [version] = facts["verdicts"], facts["versions"]
    assert (verdict["by"], verdict["blessed"]) == ("gate", True)
    assert (version["version"], version["current"], version["by"]) == (home.versions()[-1], True, "gate")


def test_a_rollback_is_a_new_version_that_is_recorded_and_the_next_candidate_meets_its_model(
    home: Home,
) -> None:
    first, second = home.versions()
    told = home.change("rollback", "linear", "--reason", "blurred sevens")
    third = home.versions()[-1]
    assert told.startswith(f"linear: version {third} is current, instead of {second}\n")
    assert home.sources() == [source(home.serving, v) for v in (first, second, first)]
    card = json.loads(pathlib.Path(home.serving, str(third), "model_card.json").read_text())
    assert card["model"]["version"] == third
    facts = home.lineage("linear")
    assert [version["version"] for version in facts["versions"]] == [first, third]
    assert [version["current"] for version in facts["versions"]] == [False, True]
    decision = facts["verdicts"][-1]
    assert (decision["by"], decision["user"], decision["reason"]) == ("rollback", USER, "blurred sevens")
    entry = journal.read(layout.Home(home.folder))[-1]
    assert (entry.command, entry.user, entry.variants["linear"].version) == ("rollback", USER, third)

    assert "nothing to roll back to" in home.refused("rollback", "linear")
    assert "is current already" in home.refused("rollback", "linear", "--to", first)

    again = home.run(400)  # nothing new: what somebody rolled back from stays where it is
    assert outcome(again) == (journal.Result.CACHED, second)
    assert home.versions() == [first, second, third]

    candidate = home.run(399)
    assert candidate.variants["linear"].result == journal.Result.PUSHED
    newest = home.lineage("linear")
    assert newest["compared_with"]["id"] == facts["model"]["id"]


def test_a_refused_model_is_promoted_by_somebody_and_the_next_candidate_meets_it(home: Home) -> None:
    before = home.versions()
    refused = home.run(1)
    assert refused.variants["linear"].result == journal.Result.REFUSED
    assert "worse than the model in production" in refused.variants["linear"].why
    assert home.versions() == before
    home.change("promote", "linear", "--reason", "a test")
    assert len(home.versions()) == len(before) + 1
    facts = home.lineage("linear")
    assert facts["training"]["steps"] == 1
    assert [(verdict["by"], verdict["blessed"]) for verdict in facts["verdicts"]] == [
        ("gate", False),
        ("promote", True),
    ]
    assert "worse than the model in production" in facts["verdicts"][0]["reason"]
    assert "is in production" in home.refused("promote", "linear")
    card = json.loads(pathlib.Path(home.serving, str(home.versions()[-1]), "model_card.json").read_text())
    assert card["model"]["version"] == home.versions()[-1]

    home.run(398)
    assert home.lineage("linear")["compared_with"]["id"] == facts["model"]["id"]


def test_what_cannot_be_done_is_refused_with_what_there_is(home: Home) -> None:
    listed = ", ".join(map(str, home.versions()))
    assert home.refused("rollback", "linear", "--to", 5).endswith(
        f"linear has no version 5; there are {listed}"
    )
    assert "mlp is not in production; there is linear" in home.refused("rollback", "mlp")
    assert "no model of mlp was ever trained" in home.refused("promote", "mlp")
    assert "linear has no model 5" in home.refused("promote", "linear", "--model", 5)
    assert "no folder mlp, nor a variant of that name among linear" in home.refused("lineage", "mlp")
    code, _, errors = home.command("rollback", "linear", "--home", home.folder.parent / "elsewhere")
    assert code == 1
    assert "has no metadata of runs" in errors


def test_keep_removes_the_oldest_versions_and_pushes_nothing_new(home: Home) -> None:
    before = home.versions()
    home.run(398)
    entry = home.run(398, "--keep", 2)
    assert home.versions() == before[-2:]
    assert outcome(entry) == (journal.Result.CACHED, before[-1])
    gone = home.lineage(home.sources()[0])["versions"]
    assert all(version["exists"] for version in gone)


def test_prune_leaves_what_the_newest_run_and_production_need(home: Home) -> None:
    def models() -> set[str]:
        folder = pathlib.Path(home.folder, "artifacts", "Trainer.linear", "model")
        return {str(path) for path in folder.iterdir() if path.name.isdecimal()}

    before, needed = models(), set(home.sources())
    assert needed < before
    assert home.change("prune", "--keep-runs", 1000) == "removed 0 artifacts of old runs, 0.0 MB\n"
    assert home.change("prune", "--keep-runs", 1, "--dry-run").startswith("would remove ")
    assert models() == before
    assert home.change("prune", "--keep-runs", 1).startswith("removed ")
    assert needed <= models() < before  # and what those were compared with
    assert not list(home.folder.glob("artifacts/*/*/*.pruned-*"))
    facts = [home.lineage(f"{home.serving}/{version}") for version in home.versions()]
    assert all(each["metrics"] and each["training"]["steps"] for each in facts)

    versions = home.versions()
    assert outcome(home.run(398)) == (journal.Result.CACHED, versions[-1])
    assert home.run(397, "--keep-runs", 1).variants["linear"].result == journal.Result.PUSHED
    assert home.lineage("linear")["compared_with"]["id"] == facts[-1]["model"]["id"]
    assert set(home.sources()) <= models()
    assert "--keep-runs must be at least 1" in home.command("prune", "--keep-runs", 0)[2]


@pytest.mark.section(Section.CHECKS)
def test_a_model_whose_files_are_gone_is_not_put_into_production(home: Home) -> None:
    home.run(2)
    before = home.versions()
    model = pathlib.Path(home.folder, "artifacts", "Trainer.linear", "model")
    newest = max(model.iterdir(), key=lambda path: int(path.name) if path.name.isdigit() else 0)
    (newest / "Format-Serving" / "saved_model.pb").unlink()
    assert "the files of model" in home.refused("promote", "linear")
    pathlib.Path(home.serving, str(before[0]), "saved_model.pb").unlink()
    assert f"the files of version {before[0]} of linear are gone" in home.refused(
        "rollback", "linear", "--to", before[0]
    )
    assert home.versions() == before


def newest_model(home: Home) -> pathlib.Path:
    folder = pathlib.Path(home.folder, "artifacts", "Trainer.linear", "model")
    return max((path for path in folder.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name))


def wipe(folder: pathlib.Path) -> None:
    shutil.rmtree(folder)


def truncate(folder: pathlib.Path) -> None:
    [weights] = folder.rglob("*.data-00000-of-00001")
    weights.write_bytes(weights.read_bytes()[:1000])


@pytest.mark.parametrize("damage", [wipe, truncate])
@pytest.mark.section(Section.BASELINE)
def test_a_lost_artifact_of_the_model_that_serves_is_restored_and_the_gate_stays_closed(
    home: Home, damage: Callable[[pathlib.Path], None]
) -> None:
    before, serves = home.versions(), pathlib.Path(home.sources()[-1])
    number = home.lineage("linear")["model"]["id"]
    damage(serves)
    refused = home.run(3 if damage is wipe else 4)
    assert refused.variants["linear"].result == journal.Result.REFUSED
    assert "worse than the model in production" in refused.variants["linear"].why
    assert home.versions() == before
    assert home.lineage(newest_model(home))["compared_with"]["id"] == number


@pytest.mark.section(Section.STALE)
def test_a_bad_candidate_judged_against_a_bad_promoted_model_is_judged_again_after_a_rollback(
    home: Home,
) -> None:
    good = home.sources()[-1]
    assert home.run(6).variants["linear"].result == journal.Result.REFUSED
    home.change("promote", "linear", "--reason", "a mistake")

    stopped = home.run(201, code=143, until="+ Evaluator.linear")  # judged against the bad model, not pushed
    assert stopped.status == journal.Status.STOPPED
    home.change("rollback", "linear", "--reason", "it was a mistake")
    assert home.sources()[-1] == good
    home.run(201)
    [line] = [line for line in home.lines if line.startswith("+ Evaluator.linear")]
    assert not line.endswith("cached")
    candidate = newest_model(home)
    assert home.lineage(candidate)["compared_with"]["path"] == good
    home.run(201)
    lines = [line for line in home.lines if line.startswith("+ ")]
    assert lines
    assert all(line.endswith("cached") for line in lines)


@pytest.mark.section(Section.BASELINE)
def test_when_artifact_and_version_are_both_lost_nothing_is_pushed_until_somebody_decides(home: Home) -> None:
    serves, current = pathlib.Path(home.sources()[-1]), home.versions()[-1]
    for version, source_of in zip(home.versions(), home.sources(), strict=True):
        if source_of == str(serves):
            truncate(pathlib.Path(home.serving, str(version)))
    wipe(serves)
    failed = home.run(401, code=1)
    assert failed.status == journal.Status.FAILED
    assert "nothing is pushed until somebody decides" in failed.error
    assert home.versions()[-1] == current
    code, out, _ = home.command("status", "--home", home.folder)
    assert code == 2
    assert out.startswith("CRITICAL")
    assert f"version {current} of linear is damaged" in out
    home.change("promote", "linear")
    assert home.versions()[-1] > current
    assert home.run(401).status == journal.Status.SUCCEEDED
