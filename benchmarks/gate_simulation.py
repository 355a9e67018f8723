"""The gate over simulated years of nights: the product's own statistics, many homes at a time.

Qualities are Gaussian around the mean of their night, each with the luck of one training; a test split adds
an error to each model that it measures. Units are points of accuracy or nats. `make simulate-gate` prints the
tables of docs/GATE.md, checks them against what the gate promises, and draws the plots.
"""

import argparse
import dataclasses
import math
import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt

from components.gate.alarm import threshold
from components.gate.correlation import ASSUMED
from components.gate.history import History
from components.gate.night import Home, Judgement, judge
from components.gate.noise import Array, Declared
from components.gate.verdict import Difference, warnings

SPLITS = {500: 1.0, 1_000: 0.7, 10_000: 0.22}
"""Standard error of a paired difference, in points of an accuracy near 0.95, by images of the test split."""

LONGEST_LOSS = 12.0
"""A decline is watched until so much is lost, in points or nats."""

SEEDS = 10
"""Trainings that the declared noise was measured with: the fewest that the product allows."""


@dataclasses.dataclass(frozen=True)
class World:
    """Describe a simulated world.

    noise: standard deviation of one training. images: of each night's test split. variants: of a home; homes:
    of the simulation. nights: of each. correlation: of successive trainings. assumed: correlation that the
    gate assumes until it can estimate one. mean: of the candidates on a night, counted from 1. accepts:
    whether each alarm is accepted by the operator, so that a new era begins.
    """

    noise: float
    images: int
    variants: int
    homes: int
    nights: int = 365
    correlation: float = 0.0
    assumed: float = 0.0
    mean: Callable[[int], float] = lambda night: 0.0
    accepts: bool = True

    @property
    def error(self) -> float:
        """Standard error of a paired difference on one night's split."""
        return SPLITS[self.images]

    @property
    def sigma(self) -> float:
        """Standard deviation of a training together with its test."""
        return math.hypot(self.noise, self.error)


@dataclasses.dataclass(frozen=True)
class Night:
    """Hold one simulated night of all variants of all homes, [homes * variants].

    judgement: of the gate. worse: what the gate would make of candidates with this much lower quality on the
    same night. production: quality of the model in production after the night.
    """

    number: int
    judgement: Judgement
    worse: Callable[[float], Judgement]
    production: Array

    @property
    def accepted(self) -> npt.NDArray[np.bool_]:
        """Whether the candidate replaced the model in production."""
        return ~(self.judgement.verdict.refused | self.judgement.alarmed)


def simulate(world: World, seed: int, visit: Callable[[Night], None]) -> None:
    """Drive the gate over the nights of a world and call `visit` after each compared night, 2 and later.

    On night 1 there is no production: the candidate is pushed and becomes the anchor.
    """
    rng = np.random.default_rng(seed)
    size = world.homes * world.variants
    declared = Declared(world.noise * np.sqrt(rng.chisquare(SEEDS - 1, size) / (SEEDS - 1)), seeds=SEEDS)
    home = Home(world.variants, world.assumed)
    luck = rng.standard_normal(size)
    production = anchor = world.mean(1) + world.noise * luck
    history = History.empty(size)
    variance = np.full(size, world.error**2)
    known = np.full(size, world.images - 1.0)
    for number in range(2, world.nights + 1):
        fresh = rng.standard_normal(size)
        luck = world.correlation * luck + math.sqrt(1 - world.correlation**2) * fresh
        candidate = world.mean(number) + world.noise * luck
        errors = rng.standard_normal((3, size)) * world.error / math.sqrt(2)
        errors[2] = np.where(production == anchor, errors[1], errors[2])
        measured = candidate + errors[0]
        gain, score = measured - production - errors[1], measured - anchor - errors[2]

        def judged(
            loss: float, gain: Array = gain, score: Array = score, history: History = history
        ) -> Judgement:
            against_production = Difference(gain - loss, variance, known)
            against_anchor = Difference(score - loss, variance, known)
            return judge(history, against_production, against_anchor, declared, home)

        found = judged(0.0)
        pushed = ~(found.verdict.refused | found.alarmed)
        production = np.where(pushed, candidate, production)
        visit(Night(number, found, judged, production))
        history = found.history
        if world.accepts and found.alarmed.any():
            history = history.renewed(found.alarmed)
            production = np.where(found.alarmed, candidate, production)
            anchor = np.where(found.alarmed, candidate, anchor)


@dataclasses.dataclass(frozen=True)
class Year:
    """Hold what became of equally good candidates over a year in one world.

    Shares lie between 0 and 1. first_month: accepted in nights 2 to 31; last_month: in the last 30. alarms:
    false ones per home and year. six_sigma, five: losses of 6 sigma and of 5 units refused on their night,
    from night 31 on; early: losses of 6 sigma refused in nights 2 to 8. warned: nights on which some variant
    of a home is a WARNING; found: nights on which the one of its variants that loses 6 sigma is.
    """

    first_month: float
    last_month: float
    alarms: float
    six_sigma: float
    five: float
    early: float
    warned: float
    found: float


def year(world: World, seed: int = 0) -> Year:
    """Simulate a year of equally good candidates; losses are tried on single nights and leave no trace."""
    accepted: dict[int, float] = {}
    alarms = 0
    tried: dict[str, list[float]] = {name: [] for name in ("six_sigma", "five", "early", "warned", "found")}

    def visit(night: Night) -> None:
        nonlocal alarms
        accepted[night.number] = float(night.accepted.mean())
        alarms += int(night.judgement.alarmed.sum())
        verdict = night.judgement.verdict
        by_home = verdict.chance.reshape(world.homes, world.variants)
        refused = verdict.refused.reshape(by_home.shape)
        tried["warned"].append(float((warnings(by_home) & refused).any(axis=-1).mean()))
        if night.number <= 8:
            tried["early"].append(float(night.worse(6 * world.sigma).verdict.refused.mean()))
        if night.number >= 31 and night.number % 10 == 1:
            loses = night.worse(6 * world.sigma).verdict
            tried["six_sigma"].append(float(loses.refused.mean()))
            tried["five"].append(float(night.worse(5.0).verdict.refused.mean()))
            one = by_home.copy()
            one[:, 0] = loses.chance.reshape(by_home.shape)[:, 0]
            seen = warnings(one)[:, 0] & loses.refused.reshape(by_home.shape)[:, 0]
            tried["found"].append(float(seen.mean()))

    simulate(world, seed, visit)
    shares = {name: float(np.mean(values)) for name, values in tried.items()}
    first = float(np.mean([accepted[number] for number in range(2, 32)]))
    last = float(np.mean([accepted[number] for number in range(world.nights - 29, world.nights + 1)]))
    return Year(first, last, alarms / world.homes * 365 / world.nights, **shares)


class Loss(NamedTuple):
    """Hold what a decline costs until its alarm: the median and the 90th percentile; inf without an alarm."""

    median: float
    ninetieth: float


def decline(world: World, fall: float, onset: int = 60, seed: int = 0) -> Loss:
    """Simulate a mean that falls every night from `onset` on; what alarmed before is left out."""
    until = onset + math.ceil(LONGEST_LOSS / fall)

    def mean(night: int) -> float:
        return -fall * max(night - onset + 1, 0)

    first = first_alarms(dataclasses.replace(world, mean=mean, nights=until, accepts=False), seed)
    losses = fall * (first[first >= onset] - onset + 1)
    return Loss(*(float(np.quantile(losses, share, method="higher")) for share in (0.5, 0.9)))


class Nonsense(NamedTuple):
    """Hold what one night of nonsense does. refused: on its night; alarmed: in the 60 nights that follow."""

    refused: float
    alarmed: float


def nonsense(world: World, on: int = 60, seed: int = 0) -> Nonsense:
    """Simulate one night that lies 20 standard deviations below all others."""

    def mean(night: int) -> float:
        return -20 * world.sigma if night == on else 0.0

    refused = []

    def visit(night: Night) -> None:
        if night.number == on:
            refused.append(float(night.judgement.verdict.refused.mean()))

    once = dataclasses.replace(world, mean=mean, nights=on + 60, accepts=False)
    first = first_alarms(once, seed, visit)
    spared = first[first >= on]
    return Nonsense(refused[0], float(np.isfinite(spared).mean()))


def first_alarms(world: World, seed: int, visit: Callable[[Night], None] = lambda night: None) -> Array:
    """Return the night of each variant's first alarm, inf for none, [homes * variants]."""
    first = np.full(world.homes * world.variants, np.inf)

    def note(night: Night) -> None:
        np.copyto(first, float(night.number), where=night.judgement.alarmed & np.isinf(first))
        visit(night)

    simulate(world, seed, note)
    return first


class Promise(NamedTuple):
    """Hold one criterion: `what` it says, what was `found`, in words, and whether it is `kept`."""

    what: str
    found: str
    kept: bool


class Cell(NamedTuple):
    """Hold everything simulated for one noise, size of the test split and number of variants."""

    world: World
    year: Year
    slow: Loss
    fast: Loss
    from_night_2: Loss
    nonsense: Nonsense
    correlated: Year | None
    correlated_slow: Loss | None
    correlated_fast: Loss | None


NOISES = (0.0, 0.3, 1.0)
SLOW, FAST = 0.1, 0.3
"""Falls of the mean per night, in points or nats."""


def cell(world: World, seed: int = 0) -> Cell:
    """Simulate everything for one world; without noise of training there is nothing to be correlated."""
    linked = dataclasses.replace(world, correlation=ASSUMED, assumed=ASSUMED)
    noisy = world.noise > 0
    return Cell(
        world,
        year(world, seed),
        decline(world, SLOW, seed=seed + 1),
        decline(world, FAST, seed=seed + 2),
        decline(world, FAST, onset=2, seed=seed + 3),
        nonsense(world, seed=seed + 4),
        year(linked, seed + 5) if noisy else None,
        decline(linked, SLOW, seed=seed + 6) if noisy else None,
        decline(linked, FAST, seed=seed + 7) if noisy else None,
    )


def promises(cells: list[Cell]) -> list[Promise]:
    """Return what the gate promises, and what the simulation found of it."""

    def least(what: str, values: list[float], bound: float) -> Promise:
        return Promise(what, f"{min(values):.2%}", min(values) >= bound)

    def most(what: str, values: list[float], bound: float, form: str = ".2f", below: bool = False) -> Promise:
        kept = max(values) < bound if below else max(values) <= bound + 1e-9
        return Promise(what, format(max(values), form), kept)

    def where(noise: Callable[[float], bool], images: Callable[[int], bool]) -> list[Cell]:
        return [each for each in cells if noise(each.world.noise) and images(each.world.images)]

    quiet = where(lambda noise: noise <= 0.3, lambda images: images >= 1_000)
    small = where(lambda noise: noise <= 0.3, lambda images: images < 1_000)
    loud = where(lambda noise: noise == 1, lambda images: images >= 1_000)
    many = [each for each in cells if each.world.variants > 1]
    linked = [each for each in cells if each.correlated is not None]
    found = [
        least(
            "(a) equal candidates accepted, nights 2 to 31 and the last 30: at least 98 %",
            [share for each in cells for share in (each.year.first_month, each.year.last_month)],
            0.98,
        ),
        most(
            "(b) false alarms per home and year: below 0.5",
            [each.year.alarms for each in cells],
            0.5,
            below=True,
        ),
    ]
    for name, group, median, ninetieth in (
        ("noise up to 0.3, 1,000 images and more", quiet, 2.3, 3.0),
        ("noise up to 0.3, 500 images", small, 3.0, 3.6),
        ("noise 1, 1,000 images and more", loud, 3.6, 4.5),
    ):
        losses = [loss for each in group for loss in (each.slow, each.fast)]
        found += [
            most(f"(b) {name}: median loss at most {median}", [each.median for each in losses], median),
            most(
                f"(b) {name}: 90th percentile at most {ninetieth}",
                [each.ninetieth for each in losses],
                ninetieth,
            ),
        ]
    return [
        *found,
        least(
            "(c) a sudden loss of 6 sigma refused, from night 31: at least 99 %",
            [each.year.six_sigma for each in cells],
            0.99,
        ),
        least(
            "(c) a sudden loss of 5 refused, noise up to 0.3, 1,000 images and more: at least 99 %",
            [each.year.five for each in quiet],
            0.99,
        ),
        most(
            "(d) nights with a WARNING among 16 equal variants: at most 5 %",
            [each.year.warned for each in many],
            0.05,
            ".2%",
        ),
        least(
            "(d) one of 16 that loses 6 sigma is a WARNING: at least 95 %",
            [each.year.found for each in many],
            0.95,
        ),
        most(
            "(e) false alarms per home and year, nights correlated by 0.6: below 1",
            [each.correlated.alarms for each in linked if each.correlated],
            1.0,
            below=True,
        ),
        least(
            "(f) a night of nonsense is refused: always",
            [each.nonsense.refused for each in cells],
            1.0,
        ),
        most(
            "(f) and raises an alarm within 60 nights: at most 15 %",
            [each.nonsense.alarmed for each in cells],
            0.15,
            ".1%",
        ),
    ]


def tables(cells: list[Cell]) -> str:
    """Return the findings of the simulation as Markdown."""

    def loss(found: Loss | None) -> str:
        return f"{found.median:.1f} / {found.ninetieth:.1f}" if found else "-"

    lines = [
        "| noise | images | variants | accepted, nights 2-31 | accepted, last 30 "
        "| 6 sigma refused, nights 2-8 | 6 sigma refused | 5 refused | nights with a WARNING "
        "| 6 sigma of one is a WARNING |",
        f"|{'---|' * 10}",
    ]
    for each in cells:
        world, one = each.world, each.year
        shares = (
            one.first_month, one.last_month, one.early, one.six_sigma, one.five, one.warned, one.found,
        )  # fmt: skip
        lines.append(
            f"| {world.noise:g} | {world.images:,} | {world.variants} | "
            + " | ".join(f"{share:.1%}" for share in shares)
            + " |"
        )
    lines += [
        "",
        "| noise | images | variants | false alarms per home and year | loss at 0.1 per night | at 0.3 "
        "| at 0.3 from night 2 | alarm after nonsense | correlated: false alarms | loss at 0.1 | at 0.3 |",
        f"|{'---|' * 11}",
    ]
    for each in cells:
        world = each.world
        alarms = f"{each.correlated.alarms:.2f}" if each.correlated else "-"
        lines.append(
            f"| {world.noise:g} | {world.images:,} | {world.variants} | {each.year.alarms:.2f} | "
            f"{loss(each.slow)} | {loss(each.fast)} | {loss(each.from_night_2)} | "
            f"{each.nonsense.alarmed:.1%} | {alarms} | {loss(each.correlated_slow)} | "
            f"{loss(each.correlated_fast)} |"
        )
    return "\n".join(lines)


def checked(found: list[Promise]) -> str:
    """Return the promises as a Markdown table."""
    lines = ["| promise | worst found | kept |", "|---|---|---|"]
    lines += [f"| {each.what} | {each.found} | {'yes' if each.kept else '**no**'} |" for each in found]
    return "\n".join(lines)


def power(world: World, losses: Array, night: int, seed: int = 0) -> Array:
    """Return the share of candidates refused on a night, by how much they lose at once; [L] -> [L]."""
    shares: list[float] = []

    def visit(each: Night) -> None:
        if each.number == night:
            shares.extend(float(each.worse(loss).verdict.refused.mean()) for loss in losses)

    simulate(dataclasses.replace(world, nights=night), seed, visit)
    return np.array(shares)


def draw_power(path: pathlib.Path, homes: int) -> None:
    """Draw which sudden losses are refused, by noise and size of the test split."""
    losses = np.linspace(0, 8, 33)
    figure, axes = plt.subplots(1, len(NOISES), figsize=(11, 3.4), sharey=True)
    for axis, noise in zip(axes, NOISES, strict=True):
        for images in SPLITS:
            world = World(noise, images, variants=1, homes=homes)
            for night, style in ((3, ":"), (60, "-")):
                label = f"{images:,} images, night {night}"
                axis.plot(losses, power(world, losses, night), style, color=COLORS[images], label=label)
        axis.set(title=f"noise of training {noise:g}", xlabel="sudden loss, points or nats")
    axes[0].set_ylabel("share refused")
    axes[-1].legend(fontsize=7)
    save(figure, path)


def draw_decline(path: pathlib.Path, seed: int = 5) -> None:
    """Draw one variant whose mean falls by 0.1 per night from night 60 on: scores, production and alarm."""
    world = World(
        0.3,
        1_000,
        variants=1,
        homes=1,
        nights=90,
        mean=lambda night: -SLOW * max(night - 59, 0),
        accepts=False,
    )
    nights: list[Night] = []
    simulate(world, seed, nights.append)
    numbers = [each.number for each in nights]
    figure, (above, below) = plt.subplots(2, 1, figsize=(8, 5), sharex=True)
    scores = [float(each.judgement.history.scores[0, -1]) for each in nights]
    above.plot(numbers, scores, ".", color="0.6", label="candidate minus anchor, as measured")
    above.plot(numbers, [each.production[0] for each in nights], label="production")
    above.plot(numbers, [world.mean(number) for number in numbers], "k--", lw=1, label="mean of candidates")
    below.plot(numbers, [float(each.judgement.decline[0]) for each in nights], label="alarm statistic")
    below.axhline(threshold(1), color="C3", lw=1, label="threshold of one variant")
    for axis in (above, below):
        axis.axvline(60, color="0.8", lw=1)
        axis.legend(fontsize=8)
    above.set_ylabel("points or nats")
    below.set(xlabel="night", ylabel="standard deviations")
    save(figure, path)


COLORS = dict(zip(SPLITS, ("C0", "C1", "C2"), strict=True))


def save(figure: Any, path: pathlib.Path) -> None:
    """Write a figure to a file and close it."""
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


BEGIN, END = "<!-- simulation: begin -->", "<!-- simulation: end -->"


def main() -> int:
    """Simulate, print, and with --page write the tables and plots into a document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--homes", type=int, default=60, help="of 16 variants; 16 times as many of one")
    parser.add_argument("--page", type=pathlib.Path, help="Markdown file whose simulation section to replace")
    arguments = parser.parse_args()
    cells = []
    for variants, homes in ((1, 16 * arguments.homes), (16, arguments.homes)):
        for noise in NOISES:
            for images in SPLITS:
                cells.append(cell(World(noise, images, variants, homes)))
                print(tables(cells[-1:]).splitlines()[2], flush=True)
    found = promises(cells)
    text = f"{checked(found)}\n\n{tables(cells)}\n"
    print(f"\n{text}")
    if arguments.page:
        before, rest = arguments.page.read_text().split(BEGIN)
        after = rest.split(END)[1]
        arguments.page.write_text(f"{before}{BEGIN}\n{text}{END}{after}")
        draw_power(arguments.page.with_name("gate_power.png"), 16 * arguments.homes)
        draw_decline(arguments.page.with_name("gate_decline.png"))
    return 0 if all(each.kept for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())
