"""What a user can choose about a run: typed, frozen, and strict about its keys."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import yaml

from pipeline.errors import SettingsError
from trainer import strict, variants
from trainer.job import Job

VARIABLE = "LATENTLINE_SETTINGS"
"""Environment variable that names a settings file, for runs through the tfx command."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """A run of the pipeline.

    Attributes:
      variants: names of modules in trainer/variants, trained in this order; empty means all.
      profile: smoke, quick or full: the budget of every variant.
      data: a folder of IDX files, `mnist`, or `auto` (MNIST, or the embedded digits where it cannot be had).
      protocol: binarization, threshold, stochastic, dynamic or grey.
      home: folder for everything a run makes.
      seed: of weights, batches and noise.
      overrides: by variant, {"config": {...}, "recipe": {...}}: fields of its Config and of its RECIPE.
      spans: whether `data` holds span-1, span-2, ... folders, of which the newest is taken.
      name: of the pipeline in the metadata store.
    """

    variants: tuple[str, ...] = ()
    profile: str = "quick"
    data: str = "auto"
    protocol: str = "threshold"
    home: str = "out"
    seed: int = 0
    overrides: Mapping[str, Mapping[str, Mapping[str, Any]]] = dataclasses.field(default_factory=dict)
    spans: bool = False
    name: str = "latentline"

    def __post_init__(self) -> None:
        object.__setattr__(self, "home", str(pathlib.Path(self.home).expanduser().resolve()))
        object.__setattr__(self, "variants", tuple(self.variants) or tuple(variants.names()))
        try:
            if len(set(self.variants)) < len(self.variants):
                raise ValueError(f"a variant is named twice in {', '.join(self.variants)}")
            strangers = sorted(set(self.overrides) - set(self.variants))
            if strangers:
                raise ValueError(f"overrides for {', '.join(strangers)}, which this run does not train")
            for job in self.jobs(dataset=""):
                variants.check_name(job.variant)
                if job.variant in self.overrides:
                    variant = variants.load(job.variant)
                    variant.config(job.config)
                    variant.recipe.with_overrides(job.recipe)
        except (ValueError, TypeError) as error:
            raise SettingsError(str(error)) from error

    def jobs(self, dataset: str) -> list[Job]:
        """What each trainer is asked to do."""
        jobs = []
        for name in self.variants:
            override = dict(self.overrides.get(name, {}))
            values = {"variant": name, "dataset": dataset, "protocol": self.protocol}
            jobs.append(Job.from_dict({**values, "profile": self.profile, "seed": self.seed, **override}))
        return jobs

    @classmethod
    def from_file(cls, path: str) -> "Settings":
        """Settings of a YAML file. Raises SettingsError."""
        try:
            with open(path) as file:
                values = yaml.safe_load(file) or {}
        except (OSError, yaml.YAMLError) as error:
            raise SettingsError(f"cannot read the settings file {path}: {error}") from error
        if not isinstance(values, dict):
            raise SettingsError(f"{path} holds a {type(values).__name__}; expected `key: value` lines")
        try:
            return strict.from_mapping(cls, values)
        except ValueError as error:
            raise SettingsError(f"{path}: {error}") from error
