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
        """One row per variant, with its name as the index.

        Columns: `status` and the other fields of the report's row; for each metric its value, and the ends of
        its 95 % interval as `<metric>_lower` and `<metric>_upper`. Units are those of the report: nats per
        image, or a fraction.
        """
        rows = []
        for row in self._rows:
            plain = {name: value for name, value in row.items() if not isinstance(value, dict | list)}
            for name, metric in row["metrics"].items():
                plain |= {
                    name: metric["value"],
                    f"{name}_lower": metric["lower"],
                    f"{name}_upper": metric["upper"],
                }
            rows.append(plain)
        return pd.DataFrame(rows).set_index("variant")

    @functools.cached_property
    def curves(self) -> pd.DataFrame:
        """One row per variant, split, step and term: `variant`, `split`, `step`, `term`, `value`.

        split: `train` (means since the step before) or `held_out`. Variants that failed have no rows.
        """
        columns = ["variant", "split", "step", "term", "value"]
        points = [
            (row["variant"], split, point["step"], term, value)
            for row in self._rows
            for split, points in self._recorded(row["variant"]).items()
            for point in points
            for term, value in point["values"].items()
        ]
        return pd.DataFrame(points, columns=columns)

    def _recorded(self, variant: str) -> dict[str, list[dict[str, Any]]]:
        """Return the points of the training behind the report, by split; none for a variant that failed."""
        card = self._home.report_cards / variant / CARD
        if not card.is_file():
            return {}
        model = pathlib.Path(json.loads(card.read_text())["model"]["source"])
        run = self._home.output(f"Trainer.{variant}", "model_run", int(model.name))
        record = json.loads((run / TRAINING_RECORD).read_text())
        return {"train": record["curve"], "held_out": record["held_out"]}
