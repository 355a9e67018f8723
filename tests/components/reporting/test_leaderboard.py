import csv
import dataclasses
import io
import json
import pathlib
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tallies import Section
from tfx.types import standard_artifacts

from components.evaluation import gated
from components.gate.record import Limits, decide
from components.gate.verdict import Difference
from components.reporting import exhibit, figures, gallery, leaderboard, model_card, page, report_page
from components.reporting.panels import Subject
from components.serving import versions
from schemas import SIDE, TRAINING_RECORD
from schemas.records import Change, Gain, Metric, Row, Status, Training, Verdict


def metric(value: float, half: float, unit: str = "nats per image") -> Metric:
    return Metric(value, value - half, value + half, unit)


TRAINING = Training(
    family="generative", dataset="mnist", protocol="threshold", profile="quick", seed=0, steps=2000,
    batch_size=32, parameters=69_989, examples=60_000, importance_samples=5, train_seconds=12.5,
    step_seconds=10.0, images_per_second=2_000.0,
)  # fmt: skip


def row(variant: str = "cvae", elbo: float = -160.0, half: float = 1.0, **changes: Any) -> Row:
    known = {field.name for field in dataclasses.fields(Training)}
    training = {name: value for name, value in changes.items() if name in known}
    others = {name: value for name, value in changes.items() if name not in known}
    values = {"metrics": {"elbo": metric(elbo, half)}, "pushed_version": 17, **others}
    return Row(
        variant, values.pop("status", Status.PUSHED), dataclasses.replace(TRAINING, **training), **values
    )


def refused(variant: str, why: str) -> Row:
    accuracy = {"accuracy": metric(0.9, 0.01)}
    return row(variant, metrics=accuracy, status=Status.REFUSED, why_not=why, pushed_version=None)


def changed(now: Row, before: list[Row]) -> Change:
    found = leaderboard.change(now, before)
    assert isinstance(found, Change)
    return found


@pytest.mark.parametrize(
    ("now", "verdict"),
    [(-158.0, "better"), (-162.0, "worse"), (-159.0, "within noise")],
)
def test_a_change_counts_when_it_exceeds_both_intervals(now: float, verdict: str) -> None:
    found = changed(row(elbo=now), [row("other", -1.0), row(elbo=-160.0)])
    assert found.verdict == verdict
    assert found.margin == pytest.approx(2**0.5)
    assert found.before == -160.0


@pytest.mark.parametrize(
    ("before", "words"),
    [
        ([], "no earlier run"),
        ([row("mlp")], "no earlier run"),
        ([row(protocol="dynamic")], "another protocol, dynamic"),
        ([row(dataset="digits")], "another dataset, digits"),
        ([row(span=3)], "another span, 3"),
        ([row(metrics={})], "not measured in both"),
        ([row(elbo=float("nan"))], "not a number"),
    ],
)
def test_what_cannot_be_compared_is_not(before: list[Row], words: str) -> None:
    found = leaderboard.compared(row(), before)
    assert found.change is None
    assert words in found.not_compared


def test_models_that_also_classify_are_compared_by_their_bound() -> None:
    now, before = (
        row(family="both", elbo=elbo, metrics={"elbo": metric(elbo, 1), "accuracy": metric(0.9, 0.1)})
        for elbo in (-150.0, -160.0)
    )
    assert changed(now, [before]).metric == "elbo"


def test_classifiers_are_compared_by_accuracy() -> None:
    now, before = (
        row(family="classifier", metrics={"accuracy": metric(value, 0.01)}) for value in (0.9, 0.95)
    )
    assert changed(now, [before]).verdict is Verdict.WORSE


def test_the_csv_has_a_value_and_an_interval_for_each_metric() -> None:
    both = [row(), refused("mlp", "a, b")]
    read = list(csv.DictReader(io.StringIO(leaderboard.comma_separated(both))))
    assert [line["variant"] for line in read] == ["cvae", "mlp"]
    assert float(read[0]["elbo"]) == -160.0
    assert (float(read[0]["elbo_lower"]), float(read[0]["elbo_upper"])) == (-161.0, -159.0)
    assert (read[0]["accuracy"], read[1]["elbo"]) == ("", "")
    assert read[1]["why_not"] == "a, b"


def test_the_markdown_table_is_whole() -> None:
    lines = leaderboard.markdown([row(), refused("mlp", "a|b <i>")]).strip().split("\n")
    assert len(lines) == 4
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    assert "-160.0 ±1.0" in lines[2]
    assert lines[3].endswith("no: a\\|b &lt;i&gt; |")


def test_what_failed_has_a_row_of_every_format_and_nothing_to_compare_with(tmp_path: pathlib.Path) -> None:
    rows = [row(), Row("mlp", Status.FAILED, why_not="Trainer.mlp failed: a|b")]
    *_, line = leaderboard.markdown(rows).strip().split("\n")
    assert line.startswith("| mlp |")
    assert line.endswith("| Trainer.mlp failed: a\\|b |")
    [_, read] = csv.DictReader(io.StringIO(leaderboard.comma_separated(rows)))
    assert (read["variant"], read["blessed"], read["why_not"]) == ("mlp", "False", "Trainer.mlp failed: a|b")
    assert (read["steps"], read["elbo"]) == ("", "")
    assert leaderboard.metric_names(rows) == ["elbo"]
    made = leaderboard.Report()
    made.uri = str(tmp_path)
    (tmp_path / leaderboard.FILE).write_text(json.dumps([each.to_json() for each in rows]))
    assert [earlier.variant for earlier in leaderboard.earlier_rows([made])] == ["cvae"]


def test_the_metrics_that_models_are_judged_by_come_first() -> None:
    metrics = dict.fromkeys(("rate", "accuracy", "elbo"), metric(1.0, 0.1))
    assert leaderboard.metric_names([row(metrics=metrics)]) == ["elbo", "accuracy", "rate"]


def report(number: int, runs: str) -> leaderboard.Report:
    made = leaderboard.Report()
    made.id = number
    made.set_string_custom_property(leaderboard.RUNS, runs)
    return made


def runs(*numbers: int) -> list[standard_artifacts.ModelRun]:
    made = []
    for number in numbers:
        run = standard_artifacts.ModelRun()
        run.id = number
        made.append(run)
    return made


@pytest.mark.parametrize(
    ("reports", "chosen"),
    [
        ([], []),
        ([report(5, "1,2")], []),  # this very run, repeated
        ([report(5, "1,2"), report(4, "1,3"), report(3, "0,2")], [4]),
        ([report(6, "1,9"), report(5, "1,2"), report(7, "")], [6]),
        ([report(6, "1,9"), report(7, "1")], [6]),  # this very run, when one of its variants had failed
    ],
)
def test_a_run_is_compared_with_the_newest_report_on_another(
    reports: list[leaderboard.Report], chosen: list[int]
) -> None:
    inputs = {"runs": runs(2, 1), "report": reports}
    found = leaderboard.LatestOtherReport().resolve_artifacts(None, inputs)
    assert [artifact.id for artifact in found["report"]] == chosen


def test_a_report_that_was_deleted_is_no_earlier_run(tmp_path: pathlib.Path) -> None:
    gone = leaderboard.Report()
    gone.uri = str(tmp_path / "gone")
    assert leaderboard.earlier_rows([gone]) == []
    assert leaderboard.earlier_rows([]) == []
    kept = leaderboard.Report()
    kept.uri = str(tmp_path)
    (tmp_path / leaderboard.FILE).write_text(json.dumps([row().to_json()]))
    assert leaderboard.earlier_rows([kept]) == [row()]


def test_a_card_beside_a_model_is_written_whole_and_again(tmp_path: pathlib.Path) -> None:
    card = model_card.card(
        row(), {}, model_card.Data("mnist", "/d", [{"split": "train", "examples": 5}], {}), "/a"
    )
    for _ in range(2):
        leaderboard.write_card(card, str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == [model_card.CARD, model_card.TEXT]
    assert json.loads((tmp_path / model_card.CARD).read_text()) == card


def test_pictures_move_into_the_report_with_a_folder_a_variant(tmp_path: pathlib.Path) -> None:
    source, target = tmp_path / "gallery", tmp_path / "report"
    source.mkdir()
    content = figures.tiles(np.zeros([1, 1, SIDE, SIDE]))
    (source / "samples.png").write_bytes(content)
    picture = {"file": "samples.png", "title": "t", "caption": "c"}
    index = {"variant": "cvae", "pictures": [picture], "left_out": {}}
    (source / gallery.INDEX).write_text(json.dumps(index))
    with pytest.raises(ValueError, match="shows cvae; expected mlp's"):
        leaderboard.copy_pictures(str(source), str(target), row("mlp"))
    shown = leaderboard.copy_pictures(str(source), str(target), row("cvae"))
    assert (target / shown["pictures"][0]["file"]).read_bytes() == content
    values = {"elbo": metric(-9.0, 1.0), "distortion": metric(7.0, 1.0), "rate": metric(2.0, 0.1)}
    slices = {label: {name: dataclasses.asdict(m) for name, m in values.items()} for label in "01"}
    leaderboard.add_bars(shown, str(target), "cvae", slices)
    assert (target / "pictures" / "cvae" / "labels.png").exists()
    assert shown["pictures"][-1]["title"] == "ELBO by label"


@pytest.mark.parametrize("value", [None, float("nan")])
def test_slices_without_a_bound_get_no_bars(value: float | None, tmp_path: pathlib.Path) -> None:
    metrics = {"accuracy": metric(0.9, 0.1)}
    if value is not None:
        metrics |= {name: metric(value, 1.0) for name in ("elbo", "distortion", "rate")}
    shown: dict[str, Any] = {"pictures": []}
    stored = {name: dataclasses.asdict(value) for name, value in metrics.items()}
    leaderboard.add_bars(shown, str(tmp_path), "cvae", {"0": stored})
    assert shown == {"pictures": []}


def test_the_gain_names_the_version_in_production(tmp_path: pathlib.Path, monkeypatch: Any) -> None:
    gain: dict[str, Any] = {
        "metric": "elbo",
        "unit": "nats per image",
        "value": 1.2,
        "lower": 0.8,
        "upper": 1.6,
    }
    monkeypatch.setattr(leaderboard, "production_gain", lambda uri: gain if uri else None)
    for version, source in ((3, "/a/model/7"), (5, "/a/model/9"), (6, "/a/model/7"), (8, "/a/model/11")):
        (tmp_path / str(version)).mkdir()
        (tmp_path / str(version) / versions.SOURCE).write_text(source)
    evaluation, blessing = standard_artifacts.ModelEvaluation(), standard_artifacts.ModelBlessing()
    artifacts = leaderboard.Artifacts(None, None, evaluation, blessing, None, None)
    assert leaderboard.against_production(artifacts, str(tmp_path)) is None
    evaluation.uri = "/a/evaluation"
    blessing.set_string_custom_property("baseline_model", "/a/model/7")
    found = leaderboard.against_production(artifacts, str(tmp_path))
    assert found == Gain(**gain, model="/a/model/7", version=6)
    blessing.set_string_custom_property("baseline_model", "/a/model/1")
    unserved = leaderboard.against_production(artifacts, str(tmp_path))
    assert unserved == Gain(**gain, model="/a/model/1")
    table = leaderboard.markdown([row(gain=found), row("mlp", gain=None)])
    assert "| +1.2 [+0.8, +1.6] against version 6 | yes |" in table
    read = list(csv.DictReader(io.StringIO(leaderboard.comma_separated([row(gain=found), row("mlp")]))))
    assert (read[0]["gain"], read[0]["gain_lower"], read[0]["gain_version"]) == ("1.2", "0.8", "6")
    assert read[1]["gain"] == ""


@pytest.mark.parametrize(
    "written",
    [
        row(),
        refused("mlp", "it is worse"),
        Row("aae", Status.FAILED, why_not="not finite", not_compared="it failed"),
        leaderboard.compared(row(elbo=-150.0, span=3, drift=("a",), floor=-200.0), [row(span=3)]),
        row(gain=Gain(1.0, 0.5, 1.5, "nats per image", "elbo", "/a/model/7", 6), warnings=("unusual gain",)),
    ],
)
def test_a_row_reads_back_as_it_was_written(written: Row) -> None:
    assert Row.from_json(json.loads(json.dumps(written.to_json()))) == written


def test_a_row_of_0_1_has_the_status_that_follows_from_it() -> None:
    for now in (row(), refused("mlp", "it is worse"), row(pushed_version=None, status=Status.BLESSED)):
        old = {
            name: value
            for name, value in now.to_json().items()
            if name not in ("status", "floor", "warnings")
        }
        assert Row.from_json(old) == now


@pytest.mark.parametrize("made_by_0_1", [False, True])
def test_what_the_gate_warns_of_stands_in_the_row(made_by_0_1: bool, tmp_path: pathlib.Path) -> None:
    gain = Difference(np.asarray(90.0), np.asarray(1.0), np.asarray(np.inf))
    earlier = decide(None, {"profile": "quick"}, {}, {}, {})
    limits = Limits(candidate=2, production=1, max_gain={"elbo": 50.0})
    record = decide(earlier, {"profile": "full"}, {"elbo": gain}, {}, {}, limits=limits)
    artifacts = leaderboard.Artifacts(*(standard_artifacts.ModelRun() for _ in range(6)))
    artifacts.run.uri, artifacts.evaluation.uri = str(tmp_path), evaluated(tmp_path)
    artifacts.blessing.set_int_custom_property("blessed", 1)
    written = {**dataclasses.asdict(TRAINING), "variant": "cvae"}
    (tmp_path / TRAINING_RECORD).write_text(json.dumps(written))
    if not made_by_0_1:
        pathlib.Path(artifacts.evaluation.uri, gated.FILE).write_text(record.to_json())
    found = leaderboard.row(artifacts, {}, str(tmp_path / "serving"), {}).warnings
    assert [sentence.split(":")[0] for sentence in found] == ([] if made_by_0_1 else ["unusual gain"])


@pytest.mark.parametrize("broken", ["gallery", "exhibit", "sprite", "record", "nothing drawn"])
def test_a_pushed_model_has_its_row_whatever_became_of_its_pictures(
    broken: str, tmp_path: pathlib.Path
) -> None:
    source = tmp_path / "gallery"
    source.mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / TRAINING_RECORD).write_text("{}" if broken != "record" else "{")
    index: dict[str, Any] = {
        "variant": "" if broken == "nothing drawn" else "cvae",
        "pictures": [],
        "left_out": {"a": "b"},
    }
    if broken != "gallery":
        (source / gallery.INDEX).write_text(json.dumps(index))
    if broken == "exhibit":
        (source / exhibit.FILE).write_text("[")
    if broken == "sprite":
        (source / exhibit.FILE).write_text('{"wall": "wall.png"}')
    artifacts = leaderboard.Artifacts(*(standard_artifacts.ModelRun() for _ in range(6)))
    artifacts.run.uri, artifacts.gallery.uri = str(tmp_path / "run"), str(source)
    artifacts.evaluation.uri = evaluated(tmp_path)
    found = leaderboard.subject(artifacts, row(), {}, str(tmp_path / "report"))
    assert found.gallery["left_out"]
    about = page.About("now", [], "", None, {})
    text = leaderboard.rendered([found], [], about)
    assert "cvae goes to production." in text
    assert "report page is missing" not in text


def test_a_page_that_cannot_be_drawn_is_the_table_and_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(view: Any) -> str:
        raise OSError("no template")

    monkeypatch.setattr(report_page, "render", broken)
    found = Subject(row(), {}, {}, {}, {"pictures": [], "left_out": {}}, {}, {})
    text = leaderboard.rendered([found], [], page.About("now", [], "", None, {}))
    assert "no template" in text
    assert "-160.0 ±1.0" in text


def evaluated(folder: pathlib.Path) -> str:
    """An evaluation without metrics."""
    place = folder / "evaluation"
    place.mkdir()
    with tf.io.TFRecordWriter(str(place / tfma.METRICS_KEY)):
        pass
    return str(place)


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=HYPERLINK(A1)", "'=HYPERLINK(A1)"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1+1", "'\t=1+1"),
        (" \r\n@x", "' \r\n@x"),
        ("-86.4", "-86.4"),
        ("+1e-3", "+1e-3"),
        ("-inf", "-inf"),
        ("mlp", "mlp"),
        ("", ""),
        (-3.5, -3.5),
        (None, None),
    ],
)
@pytest.mark.section(Section.SECRETS)
def test_a_text_that_a_spreadsheet_would_calculate_is_quoted_in_the_csv(value: object, cell: object) -> None:
    assert leaderboard.sheet_cell(value) == cell


def test_every_text_of_the_csv_is_treated_so() -> None:
    found = leaderboard.comma_separated([row("=1+1", dataset="@data", why_not="-worse")])
    [read] = csv.DictReader(io.StringIO(found))
    assert (read["variant"], read["dataset"], read["why_not"]) == ("'=1+1", "'@data", "'-worse")
    assert read["elbo"] == "-160.0"
