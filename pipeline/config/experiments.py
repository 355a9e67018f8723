"""Experiments: a variant with a configuration, a recipe, a protocol and seeds, under a name of its own."""

import dataclasses
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from schemas import strict
from trainer import variants
from trainer.job import Job

GRID = "grid"
"""Key of a list of values in place of one value: `{samples: {grid: [1, 5, 50]}}`."""
PARTS = ("config", "recipe")
"""Parts of an experiment that have fields of their own, which may be grids."""
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
PART = re.compile(r"[A-Za-z0-9_.+-]+")
"""A value of a grid that can be part of a name."""
MOST_CHARACTERS = 50
"""Length of the name of a trial: Kubernetes allows 63 characters, some of which name the kind of a task."""
RESERVED = ("base", "night", "report", "statistics")
"""Names that nodes of the pipeline have after `Resolver.`."""

Fields = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What settings say of one experiment.

    Attributes:
      variant: name of a module in trainer/variants; empty for the variant that the experiment is called by.
      config: fields of the variant's Config; `{grid: [1, 5, 50]}` in place of a value stands for one
        experiment per value.
      recipe: fields of the variant's RECIPE, with grids likewise.
      protocol: binarization; empty for the run's.
      seeds: of weights, batches and noise, one training per seed; empty for the run's.
    """

    variant: str = ""
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    protocol: str = ""
    seeds: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Trial:
    """One training of an experiment, with one seed.

    Attributes:
      name: unique in the run, part of the ids of its nodes: that of its experiment or, where the experiment
        has several seeds, `wide.s2`.
      experiment: name of the experiment.
      variant, config, recipe, protocol, seed: as in trainer.job.Job.
    """

    name: str
    experiment: str
    variant: str
    config: Fields
    recipe: Fields
    protocol: str
    seed: int

    def job(self, dataset: str, profile: str) -> Job:
        """Return what the trainer is asked to do. Raises ValueError."""
        return Job(
            self.variant, dataset, self.protocol, profile, self.seed, dict(self.config), dict(self.recipe)
        )


def trials(
    names: Sequence[str], experiments: Mapping[str, Experiment], protocol: str, seeds: Sequence[int]
) -> tuple[Trial, ...]:
    """Return the trainings of the experiments and variants called `names`, in this order.

    protocol, seeds: of experiments that have none of their own. Raises ValueError, which names the path of
    what is wrong, also where two trials have names that Kubernetes or a file system would not tell apart, or
    where two would train the same model.
    """
    for name, experiment in experiments.items():
        _check(name, experiment)
        list(_of_experiment(name, experiment, protocol, seeds))  # checks also what this run does not train
    found = [
        trial for name in names for trial in _of_experiment(name, _named(name, experiments), protocol, seeds)
    ]
    _check_names(found)
    _check_models(found)
    return tuple(found)


def _named(name: str, experiments: Mapping[str, Experiment]) -> Experiment:
    if name in experiments:
        return experiments[name]
    if name not in variants.names():
        known = list(dict.fromkeys([*experiments, *variants.names()]))
        kind = "experiment or variant" if experiments else "variant"
        close = strict.suggestion(name, known)
        hint = f"{close} Otherwise choose from {', '.join(known)}" if close.endswith("?") else close
        raise ValueError(f"unknown {kind} {name!r}; {hint}")
    return Experiment()


def _check(name: str, experiment: Experiment) -> None:
    """Raise ValueError unless an experiment may have this name and names a variant."""
    at = f"experiments.{name}"
    if not NAME.fullmatch(name):
        raise ValueError(
            f"experiments: {name!r} must begin with a letter and hold letters, digits, _ and - only, "
            "since it names folders and tasks"
        )
    if name in RESERVED:
        raise ValueError(f"{at}: nodes of the pipeline have this name; choose another one")
    known = variants.names()
    if experiment.variant and experiment.variant not in known:
        raise ValueError(
            f"{at}.variant: unknown variant {experiment.variant!r}; "
            f"{strict.suggestion(experiment.variant, known)}"
        )
    if not experiment.variant and name not in known:
        raise ValueError(f"{at}: there is no variant of this name; name one, as in {name}: {{variant: cvae}}")
    if name in known and experiment.variant not in ("", name):
        raise ValueError(
            f"{at}: this is the name of a variant; an experiment with {experiment.variant} needs another name"
        )
    if len(set(experiment.seeds)) < len(experiment.seeds):
        raise ValueError(f"{at}.seeds: a seed is given twice in {', '.join(map(str, experiment.seeds))}")


def _of_experiment(name: str, experiment: Experiment, protocol: str, seeds: Sequence[int]) -> Iterator[Trial]:
    """Yield the trials of what one name stands for: an experiment, or one per point of its grid."""
    at = f"experiments.{name}"
    variant = variants.load(experiment.variant or name)
    chosen = experiment.seeds or tuple(seeds)
    for suffix, config, recipe in _points(experiment, at):
        variant.config(config, f"{at}.config")
        variant.recipe.with_overrides(recipe, f"{at}.recipe")
        full = f"{name}{suffix}"
        for seed in chosen:
            yield Trial(
                name=full if len(chosen) == 1 else f"{full}.s{seed}",
                experiment=full,
                variant=variant.name,
                config=config,
                recipe=recipe,
                protocol=experiment.protocol or protocol,
                seed=seed,
            )


def _points(experiment: Experiment, at: str) -> Iterator[tuple[str, Fields, Fields]]:
    """Yield the end of the name, the configuration and the recipe of each point of an experiment's grid."""
    axes: list[tuple[str, str, Sequence[Any]]] = []
    for part in PARTS:
        for field, value in getattr(experiment, part).items():
            if isinstance(value, Mapping) and GRID in value:
                axes.append((part, field, _values(value, f"{at}.{part}.{field}")))
    for point in itertools.product(*(values for _, _, values in axes)):
        fields = {"config": dict(experiment.config), "recipe": dict(experiment.recipe)}
        suffix = ""
        for (part, field, _), value in zip(axes, point, strict=True):
            fields[part][field] = value
            suffix += f"-{field}-{_text(value, f'{at}.{part}.{field}.{GRID}')}"
        yield suffix, fields["config"], fields["recipe"]


def _values(value: Mapping[str, Any], at: str) -> Sequence[Any]:
    """Return the values of a grid. Raises ValueError."""
    if len(value) > 1:
        other = next(key for key in value if key != GRID)
        raise ValueError(f"{at}.{other}: no such field beside {GRID}; a grid is {{{GRID}: [1, 5, 50]}} alone")
    listed = value[GRID]
    if not isinstance(listed, list | tuple) or not listed:
        raise ValueError(f"{at}.{GRID} must be a list of values, got {listed!r}")
    return listed


def _text(value: Any, at: str) -> str:
    """Return a value of a grid as part of a name. Raises ValueError."""
    if isinstance(value, list | tuple):
        return "x".join(_text(item, at) for item in value) or "none"
    text = "none" if value is None else json.dumps(value) if isinstance(value, bool | int | float) else value
    if not isinstance(text, str) or not PART.fullmatch(text):
        raise ValueError(f"{at}: {value!r} cannot be part of a name; write one experiment for each value")
    return text


def changed(
    experiments: Mapping[str, Experiment], names: Sequence[str], assignments: Sequence[str]
) -> dict[str, Experiment]:
    """Return the experiments after assignments such as `iwae.config.samples=50`, whose values are YAML.

    names: of all that the run trains. Raises ValueError for an assignment that is none, and for one to
    something that the run does not train.
    """
    found = dict(experiments)
    for text in assignments:
        path, equals, value = text.partition("=")
        name, *fields = path.split(".")
        if not equals or not 1 <= len(fields) <= 2 or not all((name, *fields)):
            raise ValueError(f"--set {text}: expected NAME.config.FIELD=VALUE or NAME.recipe.FIELD=VALUE")
        if name not in names:
            raise ValueError(
                f"--set {text}: this run does not train {name}; {strict.suggestion(name, list(names))}"
            )
        before = found.get(name, Experiment())
        try:
            given = strict.parse(value)
            if len(fields) == 2:
                if fields[0] not in PARTS:
                    raise ValueError(f"{fields[0]}: no such part; {strict.suggestion(fields[0], PARTS)}")
                given = {**getattr(before, fields[0]), fields[1]: given}
            values = strict.typed_fields(Experiment, {fields[0]: given}, f"experiments.{name}")
        except ValueError as error:
            raise ValueError(f"--set {text}: {error}") from error
        found[name] = dataclasses.replace(before, **values)
    return found


def folded(name: str) -> str:
    """Return what Kubernetes and file systems that ignore case leave of a name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _check_names(found: Sequence[Trial]) -> None:
    known: dict[str, Trial] = {}
    for trial in found:
        if len(trial.name) > MOST_CHARACTERS:
            raise ValueError(
                f"experiments.{trial.experiment}: the name {trial.name} has {len(trial.name)} characters; "
                f"Kubernetes takes at most {MOST_CHARACTERS}, so shorten it"
            )
        other = known.setdefault(folded(trial.name), trial)
        if other is not trial:
            raise ValueError(
                f"experiments: {other.name} and {trial.name} differ only by what Kubernetes or a file system "
                "ignores (case and punctuation); rename one of them"
                if other.name != trial.name
                else f"experiments: two trainings are called {trial.name}; rename one of the experiments"
            )


def _check_models(found: Sequence[Trial]) -> None:
    known: dict[str, Trial] = {}
    for trial in found:
        variant = variants.load(trial.variant)
        config, recipe = variant.config(trial.config), variant.recipe.with_overrides(trial.recipe)
        other = known.setdefault(repr((variant.name, config, recipe, trial.protocol, trial.seed)), trial)
        if other is not trial:
            raise ValueError(
                f"experiments: {other.name} and {trial.name} would train the same model, with the same "
                "configuration, recipe, protocol and seed; remove one of them"
            )
