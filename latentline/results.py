"""The results of a home as tables."""

import functools
import json
import os
import pathlib
from typing import Any

import pandas as pd

from pipeline.home.layout import Home
from schemas import TRAINING_RECORD

LEADERBOARD, CARD = "leaderboard.json", "model_card.json"


class ResultsError(ValueError):
    """A home has no results; the message says what was looked for and what to do."""


def results(home: str | os.PathLike[str]) -> "Results":
    """Return the results of the newest report in a home. Raises ResultsError where there is none."""
    return Results(Home.of(pathlib.Path(home)))


class Results:
    """The newest report of a home."""

    def __init__(self, home: Home) -> None:
        path = home.report / LEADERBOARD
        try:
            self._rows: list[dict[str, Any]] = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ResultsError(
                f"cannot read {path} ({error}); run `latentline run` in this home first"
            ) from error
        self._home = home

    @functools.cached_property
    def leaderboard(self) -> pd.DataFrame:
        """One row per model, with its name as the index: that of its experiment or variant, and of its seed.

        Columns: `experiment`, `variant`, `status` and the other fields of the report's row; for each metric
        its value, and the ends of its 95 % interval as `<metric>_lower` and `<metric>_upper`. Units are those
        of the report: nats per image, or a fraction.
        """
        rows = []
        for row in self._rows:
            plain = {name: value for name, value in row.items() if not isinstance(value, dict | list)}
            plain["name"] = _name(row)
            for name, metric in row["metrics"].items():
                plain |= {
                    name: metric["value"],
                    f"{name}_lower": metric["lower"],
                    f"{name}_upper": metric["upper"],
                }
            rows.append(plain)
        return pd.DataFrame(rows).set_index("name")

    @functools.cached_property
    def curves(self) -> pd.DataFrame:
        """One row per model, split, step and term: `name`, `variant`, `split`, `step`, `term`, `value`.

        split: `train` (means since the step before) or `held_out`. Models that failed have no rows.
        """
        columns = ["name", "variant", "split", "step", "term", "value"]
        points = [
            (_name(row), row["variant"], split, point["step"], term, value)
            for row in self._rows
            for split, points in self._recorded(_name(row)).items()
            for point in points
            for term, value in point["values"].items()
        ]
        return pd.DataFrame(points, columns=columns)

    @functools.cached_property
    def scores(self) -> pd.DataFrame:
        """One row per model and test image: what each model scored on it, for comparisons of any kind.

        Columns: `name`, `experiment`, `variant`, `seed`; `index`, the place of the image in the test split;
        `image`, a digest by which an image is known in any home; `label`; and the metrics that are one number
        per image, in the units of the leaderboard (nan where a model has none). Two rows with the same
        `image` were scored with the same evaluation noise. Raises ResultsError for reports of 0.1.
        """
        parts = []
        for row in self._rows:
            path = self._home.report_scores / f"{_name(row)}.parquet"
            if path.is_file():
                part = pd.read_parquet(path)
                about = {name: row.get(name) for name in ("experiment", "variant", "seed")}
                facts = {"name": _name(row), **about, "index": range(len(part))}
                for place, (name, value) in enumerate(facts.items()):
                    part.insert(place, name, value)
                parts.append(part)
        if not parts:
            raise ResultsError(
                f"there are no scores in {self._home.report_scores}; a run of this version keeps them"
            )
        return pd.concat(parts, ignore_index=True)

    def _recorded(self, name: str) -> dict[str, list[dict[str, Any]]]:
        """Return the points of the training behind the report, by split; none for a model that failed."""
        card = self._home.report_cards / name / CARD
        if not card.is_file():
            return {}
        model = pathlib.Path(json.loads(card.read_text())["model"]["source"])
        run = self._home.output(f"Trainer.{name}", "model_run", int(model.name))
        record = json.loads((run / TRAINING_RECORD).read_text())
        return {"train": record["curve"], "held_out": record["held_out"]}


def _name(row: dict[str, Any]) -> str:
    """Return the name of a row's model; reports of 0.1 have variants only."""
    return str(row.get("name") or row["variant"])
