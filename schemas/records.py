"""Records that one part of the pipeline writes and others read: frozen values, each with one form in JSON."""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any


class Status(enum.StrEnum):
    """What became of a variant's model."""

    PUSHED = "pushed"
    BLESSED = "blessed"
    """Accepted by the gate, but without a version of its own in serving."""
    REFUSED = "refused"
    FAILED = "failed"


class Verdict(enum.StrEnum):
    """How two measurements of the same metric compare."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "within noise"


@dataclasses.dataclass(frozen=True)
class Metric:
    """A measured value with the ends of its 95 % confidence interval."""

    value: float
    lower: float
    upper: float
    unit: str

    @property
    def half(self) -> float:
        """Half the width of the interval."""
        return (self.upper - self.lower) / 2


@dataclasses.dataclass(frozen=True)
class Gain(Metric):
    """The paired difference, candidate minus baseline, of the headline metric over the same test images.

    Attributes:
      metric: the headline metric.
      model: the folder of the baseline's artifact; empty where it is not known.
      version: the version under which the baseline is served, if it still is.
    """

    metric: str
    model: str = ""
    version: int | None = None

    @property
    def verdict(self) -> Verdict:
        """Whether the interval lies above zero, below it, or includes it."""
        if self.lower > 0:
            return Verdict.BETTER
        return Verdict.WORSE if self.upper < 0 else Verdict.SAME


@dataclasses.dataclass(frozen=True)
class Change:
    """How the headline metric moved since the same variant's row of an earlier report.

    Attributes:
      margin: half the 95 % interval of the change, as if both were measured on separate images.
    """

    metric: str
    before: float
    before_profile: str
    before_steps: int
    change: float
    margin: float
    verdict: Verdict


@dataclasses.dataclass(frozen=True)
class Training:
    """The part of a training record that the leaderboard shows.

    Attributes:
      summary: of the variant's datasheet, as it reads when the report is written.
      config: overrides of the variant's Config.
      recipe: overrides of the variant's RECIPE.
      resolved: every field of `config` and of `recipe` with the value that was used; empty in records of 0.1.
    """

    family: str
    dataset: str
    protocol: str
    profile: str
    seed: int
    steps: int
    batch_size: int
    parameters: int
    examples: int
    importance_samples: int
    train_seconds: float
    step_seconds: float
    images_per_second: float
    summary: str = ""
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    resolved: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    warm_start: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """One trained model of a leaderboard.

    Attributes:
      variant: the model; empty for a failed one of which no more is known than its name.
      training: None for a model whose line failed.
      metrics: the candidate's metrics over the whole test split.
      why_not: why there is no pushed model; empty where there is one.
      span: the newest span of the data; None without spans.
      gain: over the model in production; None where there was none.
      change: since an earlier report; None where nothing can be compared, for the reason `not_compared`.
      floor: the least headline metric that is blessed.
      warnings: what the gate says that somebody should look at, beside a refusal, as sentences.
      name: unique in the leaderboard: the experiment's name, with the seed if it has several; by default, the
        variant's.
      experiment: its name; by default `name`.
    """

    variant: str
    status: Status
    training: Training | None = None
    metrics: Mapping[str, Metric] = dataclasses.field(default_factory=dict)
    why_not: str = ""
    pushed_version: int | None = None
    span: int | None = None
    drift: tuple[str, ...] = ()
    gain: Gain | None = None
    change: Change | None = None
    not_compared: str = ""
    floor: float | None = None
    warnings: tuple[str, ...] = ()
    name: str = ""
    experiment: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.variant)
        object.__setattr__(self, "experiment", self.experiment or self.name)

    @property
    def blessed(self) -> bool:
        """Whether the gate accepted the model."""
        return self.status in (Status.PUSHED, Status.BLESSED)

    @property
    def trained(self) -> Training:
        """Return the training. Raises ValueError for a variant that failed, which has none."""
        if self.training is None:
            raise ValueError(f"{self.name} failed, so nothing is known of its training")
        return self.training

    def to_json(self) -> dict[str, Any]:
        """Return the row as a JSON object; the fields of the training lie at its top."""
        training = dataclasses.asdict(self.training) if self.training else {}
        empty = dict.fromkeys(field.name for field in dataclasses.fields(Training))
        return {
            **empty,
            **training,
            "name": self.name,
            "experiment": self.experiment,
            "variant": self.variant,
            "status": str(self.status),
            "metrics": {name: dataclasses.asdict(metric) for name, metric in self.metrics.items()},
            "blessed": self.blessed,
            "why_not": self.why_not,
            "pushed_version": self.pushed_version,
            "span": self.span,
            "drift": list(self.drift),
            "gain": dataclasses.asdict(self.gain) if self.gain else None,
            "comparison": dataclasses.asdict(self.change) if self.change else {"why_not": self.not_compared},
            "floor": self.floor,
            "warnings": list(self.warnings),
            **({"failed": self.why_not} if self.status is Status.FAILED else {}),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Row":
        """Read a row, also one that 0.1 wrote. Raises KeyError and TypeError for what is not a row."""
        names = {field.name for field in dataclasses.fields(Training)}
        given = {name: value for name, value in values.items() if name in names and value is not None}
        gain, change = values.get("gain"), values.get("comparison") or {}
        return cls(
            variant=values["variant"],
            status=_status(values),
            training=None if "failed" in values else Training(**given),
            metrics={name: Metric(**metric) for name, metric in values["metrics"].items()},
            why_not=values["why_not"],
            pushed_version=values["pushed_version"],
            span=values.get("span"),
            drift=tuple(values.get("drift", ())),
            gain=Gain(**gain) if gain else None,
            change=Change(**{**change, "verdict": Verdict(change["verdict"])})
            if "verdict" in change
            else None,
            not_compared=change.get("why_not", ""),
            floor=values.get("floor"),
            warnings=tuple(values.get("warnings", ())),
            name=values.get("name", ""),
            experiment=values.get("experiment", ""),
        )


def _status(values: Mapping[str, Any]) -> Status:
    """Return the status of a row; 0.1 did not write it, but what it follows from."""
    if "status" in values:
        return Status(values["status"])
    if "failed" in values:
        return Status.FAILED
    if not values["blessed"]:
        return Status.REFUSED
    return Status.PUSHED if values["pushed_version"] else Status.BLESSED
