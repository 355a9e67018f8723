"""What a user can choose about a run: typed, frozen, and strict about its keys."""

import dataclasses
import importlib.util
import math
import pathlib
import re
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import yaml

from pipeline.config import engines, files
from pipeline.config.errors import SettingsError
from pipeline.config.experiments import Experiment, Trial, trials
from pipeline.config.notify import Notify
from schemas import GREY, PIXEL_KINDS, RESIZE, strict
from trainer import variants
from trainer.job import Job

VARIABLE = "LATENTLINE_SETTINGS"
"""Environment variable that names a settings file, for runs through the tfx command."""
AUTO = "auto"
"""As `data`: MNIST, or the embedded digits if it cannot be downloaded."""
SOURCES = ("mnist", "digits", AUTO)
"""Values of `data` that are no folder; the data sets have names of their own."""
DRIFT = ("stop", "warn")
PATTERN_CHARACTERS = "*?[]\\"
"""Characters that the path of a home may not hold, since TFX finds the files of artifacts by patterns."""
PUSH = ("each", "none")
"""What may be pushed of a run: the model of each experiment, or none."""
MAX_GAIN = {"accuracy": 0.2, "elbo": 50.0}
"""A gain over the model in production that no night's data brings, as a fraction and in nats per image.

Between budgets of one variant the bound moves by up to some tens of nats. Where train and test labels are
wrong the same way, accuracy seems to gain 0.8; on inverted images, a bound 18,000 nats.
"""


def _in_new_form(overrides: Any) -> str:
    """Return what to write in place of `overrides`, on one line."""
    try:
        shown = yaml.safe_dump(overrides, default_flow_style=True, width=math.inf, sort_keys=False)
    except yaml.YAMLError:  # not what a settings file can hold
        shown = repr(overrides)
    shown = " ".join(shown.removesuffix("...\n").split())
    return (
        f"overrides is now called experiments; write `experiments: {shown}`, and name all that the run "
        "trains in `variants`"
    )


@dataclasses.dataclass(frozen=True)
class Settings:
    """A run of the pipeline.

    Attributes:
      variants: names of experiments, or of modules in trainer/variants, trained in this order; empty for all
        experiments or, without any, all variants.
      profile: smoke, quick or full: the budget of every variant.
      data: a folder of IDX files or another form that `latentline import` reads, `mnist`, `digits`
        (embedded), or `auto` (MNIST, or the embedded digits where it cannot be downloaded).
      dataset: name of the data set in the folder `data`; empty for the folder's own name, or `mnist` if the
        files are the published ones. Models of different data sets are never compared.
      subset: what the names of the files begin with, where `data` holds several data sets, such as
        `emnist-letters`; empty for all files.
      resize: how images of another size are resized: `pad` or `area`; empty to refuse them.
      scale: whether the values of the files run from 0 to 1, as fractions, and become grey values.
      pixels: what the pixels of the files are: `grey`, 0 to 255, or `binary`, 0 and 1 (or 255).
      protocol: binarization, threshold, stochastic, dynamic or grey.
      home: folder for everything a run makes.
      seed: of weights, batches and noise.
      jobs: cores that components may use at the same time, each in a process of its own; 1: one component
        after another; 0: what cores and memory allow.
      seeds: several of them in place of `seed`: each experiment is trained once per seed.
      experiments: by name, a variant with its own config, recipe, protocol and seeds. A variant's name is the
        experiment with its defaults, and may be configured here, too.
      push: what goes to production: `each`, the model of each experiment, under the experiment's name; or
        `none`. Empty for `each` where every experiment has one seed, and for `none` otherwise.
      spans: 0 where `data` holds the images itself; else `data` holds folders span-1, span-2, ..., of which
        so many of the newest are trained on; the newest one's test split is what models are compared on.
      serving_data: folder of TFRecord files of tf.Examples as clients sent them, to be compared with the
        training data; empty for none.
      drift: what drift or skew does: `stop` the run before training, or `warn`.
      max_gain: by headline metric, a gain over the model in production beyond which a model is not believed
        and not blessed, if both were trained with the same settings; else there is a WARNING. What is not
        named here is as in MAX_GAIN.
      new_era: replace models in production without a comparison where there can be none, since they are of
        another data set, protocol, image shape or number of classes; else such a run stops before training.
      warm_start: start each training from the weights of the model in production.
      keep: versions of a variant that stay in production's folder after a push, the newest; 0: all.
      keep_runs: runs whose artifacts stay after a run that succeeded, the newest, beside those that made what
        is in production; 0: all.
      notify: hooks on failure, push and drift, as a Notify or the values of one.
      mlflow: where to log results: a folder, a URI of one, or an MLflow server's address; empty for nowhere.
      engines: what Beam can run on, by name: a list of Beam's arguments. `direct`, and `direct-N` for N
        processes of this machine, need no entry.
      beam: what the components of Beam run on, by component (`StatisticsGen`, `Transform`, `Evaluator`) or
        `default`: the name of an engine or Beam's arguments; `direct` for what is not named.
      name: of the pipeline in the metadata store.
    """

    variants: tuple[str, ...] = ()
    profile: str = "quick"
    data: str = "auto"
    dataset: str = ""
    subset: str = ""
    resize: str = ""
    scale: bool = False
    pixels: str = "grey"
    protocol: str = "threshold"
    home: str = "out"
    seed: int = 0
    jobs: int = 0
    seeds: tuple[int, ...] = ()
    experiments: Mapping[str, Experiment] = dataclasses.field(default_factory=dict)
    push: str = ""
    spans: int = 0
    serving_data: str = ""
    drift: str = "stop"
    max_gain: Mapping[str, float] = dataclasses.field(default_factory=dict)
    new_era: bool = False
    warm_start: bool = False
    keep: int = 10
    keep_runs: int = 0
    notify: Notify = dataclasses.field(default_factory=Notify)
    mlflow: str = ""
    engines: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    beam: Mapping[str, str | tuple[str, ...]] = dataclasses.field(default_factory=dict)
    name: str = "latentline"

    RETIRED: ClassVar[Mapping[str, Callable[[Any], str]]] = {"overrides": _in_new_form}
    """Fields of 0.1, and what to say to somebody who gives one."""

    def __post_init__(self) -> None:
        try:
            for name, value in strict.typed_fields(type(self), vars(self)).items():
                object.__setattr__(self, name, value)
            for name, value in vars(self).items():
                if isinstance(value, str) and "\0" in value:
                    raise ValueError(f"{name} holds a NUL byte, got {value!r}; no path or name can")
            object.__setattr__(self, "home", _resolved(self.home))
            everything = tuple(self.experiments) or tuple(variants.names())
            object.__setattr__(self, "variants", tuple(self.variants) or everything)
            self._check_operation()
            self._check_retraining()
            self._check_seeds()
            if len(set(self.variants)) < len(self.variants):
                raise ValueError(f"a variant is named twice in {', '.join(self.variants)}")
            self.trainings(dataset="")
            self._check_push()
            engines.resolved(self.beam, self.engines)
        except ValueError as error:
            raise SettingsError(str(error)) from error

    def _check_seeds(self) -> None:
        if self.seeds and self.seed:
            raise ValueError(
                f"give seed or seeds, not both; got seed {self.seed} and seeds {list(self.seeds)}"
            )
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"a seed is given twice in seeds {', '.join(map(str, self.seeds))}")

    def _check_push(self) -> None:
        if self.push and self.push not in PUSH:
            raise ValueError(f"unknown push {self.push!r}; choose from {', '.join(PUSH)}")
        several = next((trial for trial in self.trials if trial.name != trial.experiment), None)
        if self.push == "each" and several:
            raise ValueError(
                f"push: each serves one model per experiment, and {several.experiment} has several seeds; "
                "write push: none, or give it one seed"
            )
        if self.warm_start and self.pushed == "none":
            raise ValueError(
                "warm_start begins with the model in production, and push: none puts none there; "
                "leave one of them out"
            )

    def _check_retraining(self) -> None:
        if self.spans < 0:
            raise ValueError(f"spans must be a whole number, 0 for none, got {self.spans!r}")
        if self.dataset and self.data in SOURCES:
            raise ValueError(
                f"dataset names the data in a folder, and {self.data!r} has a name of its own; leave dataset "
                "out, or give a folder as data (--data DIR)"
            )
        if self.dataset in SOURCES or (self.dataset and not self.dataset.isprintable()):
            raise ValueError(
                f"dataset must be a name in one line other than {', '.join(SOURCES)}, which published files "
                f"have by themselves; got {self.dataset!r}"
            )
        if self.spans and self.data in SOURCES:
            raise ValueError(
                f"spans are taken from a folder; give it as data (--data DIR), got {self.data!r}"
            )
        if self.drift not in DRIFT:
            raise ValueError(f"unknown drift {self.drift!r}; choose from {', '.join(DRIFT)}")
        if self.pixels not in PIXEL_KINDS:
            raise ValueError(f"unknown pixels {self.pixels!r}; choose from {', '.join(PIXEL_KINDS)}")
        if self.resize not in ("", *RESIZE):
            raise ValueError(f"unknown resize {self.resize!r}; choose from {', '.join(RESIZE)}")
        if self.scale and self.pixels != GREY:
            raise ValueError(
                f"scale makes grey values, expected `pixels: {GREY}` with it, got {self.pixels!r}"
            )
        for name, limit in self.max_gain.items():
            if name not in MAX_GAIN:
                raise ValueError(
                    f"max_gain.{name}: no such field; {strict.suggestion(name, tuple(MAX_GAIN))}"
                )
            if not limit > 0:
                raise ValueError(f"max_gain.{name} must be a number above 0, got {limit!r}")

    def _check_operation(self) -> None:
        if self.jobs < 0:
            raise ValueError(
                f"jobs must be a number of cores, or 0 for what the machine allows, got {self.jobs!r}"
            )
        if self.keep < 0:
            raise ValueError(f"keep must be a number of versions, or 0 for all, got {self.keep!r}")
        if self.keep_runs < 0:
            raise ValueError(f"keep_runs must be a number of runs, or 0 for all, got {self.keep_runs!r}")
        if not re.match(r"(file|https?)://|(?!\w+://)", self.mlflow):
            raise ValueError(f"mlflow must be a folder, file:///... or http(s)://..., got {self.mlflow!r}")
        if "@" in urllib.parse.urlsplit(self.mlflow).netloc:
            raise ValueError(
                "mlflow holds a user's name or password, which the journal would keep; give them as "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment"
            )
        if self.mlflow and importlib.util.find_spec("mlflow") is None:
            install = "pip install mlflow-skinny==2.19.0"
            raise ValueError(f"mlflow: MLflow's client is not installed; {install}, or log nowhere")

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Return the trainings of the run, in order."""
        return trials(self.variants, self.experiments, self.protocol, self.seeds or (self.seed,))

    @property
    def pushed(self) -> str:
        """Return what is pushed, `each` or `none`, as given or by default."""
        several = any(trial.name != trial.experiment for trial in self.trials)
        return self.push or ("none" if several else "each")

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Return the names under which models of the run are served; none where nothing is pushed."""
        return tuple(trial.name for trial in self.trials) if self.pushed == "each" else ()

    @property
    def beam_arguments(self) -> dict[str, tuple[str, ...]]:
        """Return Beam's arguments by component, with those of all others as `default`."""
        return engines.resolved(self.beam, self.engines)

    def trainings(self, dataset: str) -> list[Job]:
        """Return what each trainer is asked to do, one job per trial."""
        return [trial.job(dataset, self.profile) for trial in self.trials]

    @classmethod
    def from_file(cls, path: str) -> "Settings":
        """Settings of a YAML file. Raises SettingsError."""
        return files.read(cls, path, "settings", SettingsError)


def _resolved(home: str) -> str:
    """Return the folder as an absolute path. Raises ValueError."""
    try:
        place = str(pathlib.Path(home).expanduser().resolve())
    except (RuntimeError, OSError) as error:  # a user that does not exist, a chain of links without end
        raise ValueError(f"home {home!r} cannot be found ({error})") from error
    found = [character for character in PATTERN_CHARACTERS if character in place]
    if found:
        raise ValueError(
            f"home {place!r} holds {' '.join(found)}, which TFX reads as a pattern of file names; "
            f"choose a folder without {' '.join(PATTERN_CHARACTERS)} in its path"
        )
    return place
