import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from components.gate.evidence import Z_95
from components.reporting import figures
from schemas import SIDE


def opened(content: bytes) -> npt.NDArray[Any]:
    """A picture's brightness, 0 to 255."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("L"), float)


def test_a_mosaic_holds_every_image_at_its_place() -> None:
    images = np.random.default_rng(0).random([3, 4, SIDE, SIDE])
    sheet = figures.mosaic(images, gap=2)
    assert sheet.shape == (3 * SIDE + 4, 4 * SIDE + 6)
    top, left = 2 * (SIDE + 2), 3 * (SIDE + 2)
    assert sheet[top : top + SIDE, left : left + SIDE] == pytest.approx(images[2, 3])
    assert np.isnan(sheet[SIDE : SIDE + 2]).all()


def test_ink_is_dark_on_white() -> None:
    blank = figures.tiles(np.zeros([1, 2, SIDE, SIDE]))
    full = figures.tiles(np.ones([1, 2, SIDE, SIDE]))
    assert opened(blank).mean() > 240
    assert opened(full).mean() < 100


def test_the_manifold_has_its_lowest_quantiles_at_the_lower_left() -> None:
    quantiles = np.linspace(0.05, 0.95, 6)
    ink = np.zeros([6, 6, SIDE, SIDE])
    ink[0, 0] = 1.0
    shown = opened(figures.manifold(ink, quantiles, "x", "y"))
    height, width = shown.shape
    inside = shown[: int(0.9 * height), int(0.15 * width) :]  # without axes and labels
    rows, columns = np.nonzero(inside < 30)
    assert rows.min() > 0.6 * len(inside)
    assert columns.max() < 0.4 * inside.shape[1]


def test_the_calibration_error_of_known_predictions() -> None:
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    correct = np.array([1, 1, 1, 0, 1, 0], bool)
    assert figures.calibration_error(confidence, correct) == pytest.approx(
        (4 * abs(0.75 - 0.95) + 2 * abs(0.5 - 0.55)) / 6
    )
    assert figures.calibration_error(np.ones(5), np.ones(5, bool)) == 0.0


def test_the_intervals_of_calibration_bins_are_wilsons() -> None:
    [found] = figures.calibration_bins(np.full(10, 0.83), np.arange(10) < 7)
    assert found.images == 10
    assert [found.confidence, found.accuracy] == pytest.approx([0.83, 0.7])
    assert [found.lower, found.upper] == pytest.approx([0.3968, 0.8922], abs=1e-4)
    for bound in (found.lower, found.upper):  # where the score test just does not reject
        assert (0.7 - bound) ** 2 == pytest.approx(Z_95**2 * bound * (1 - bound) / 10)


@pytest.mark.parametrize("right", [0.0, 1.0])
def test_a_bin_that_is_all_right_or_all_wrong_has_an_interval_around_it(right: float) -> None:
    [found] = figures.calibration_bins(np.full(3, 0.5), np.full(3, right))
    assert found.lower <= right <= found.upper
    assert found.upper - found.lower > 0.1


def test_an_animation_has_a_frame_a_moment_and_rests_on_the_last() -> None:
    frames = np.random.default_rng(0).integers(0, 256, [4, 25, SIDE, SIDE], np.uint8)
    film = Image.open(io.BytesIO(figures.animation(frames, [10, 20, 40, 80])))
    assert getattr(film, "n_frames", 1) == 4
    film.seek(3)
    assert film.info["duration"] == figures.LAST_MILLISECONDS
    assert film.info["loop"] == 0


def curve(length: int, held_out: bool = False) -> figures.Curve:
    steps = np.arange(1.0, length + 1)
    return figures.Curve("loss", held_out, steps, 500 / steps)


@pytest.mark.parametrize(
    "panels",
    [
        {"nats per image": [curve(1)]},
        {"nats per image": [curve(50), curve(3, held_out=True)]},
        {"nats per image": [curve(50)], "fraction": [curve(50)]},
    ],
)
def test_curves_of_any_length_and_number_are_drawn(panels: dict[str, list[figures.Curve]]) -> None:
    shown = opened(figures.curves(panels))
    assert shown.min() < 80  # ink on white


def test_weights_of_either_sign_are_told_apart_and_zero_is_white() -> None:
    maps = np.stack([np.full([SIDE, SIDE], value) for value in (-1.0, 0.0, 1.0)])[None]
    shown = np.asarray(Image.open(io.BytesIO(figures.tiles(maps, weights=True))).convert("RGB"), int)
    middle = shown[len(shown) // 2]
    purple, orange = middle[:, 2] > middle[:, 0] + 20, middle[:, 0] > middle[:, 2] + 40
    first_purple, first_orange = int(purple.argmax()), int(orange.argmax())
    assert 0 < first_purple < first_orange
    between = middle[(first_purple + first_orange) // 2 + 3]
    assert between.min() > 230  # zero


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_small_differences_between_weights_of_one_sign_show(sign: float) -> None:
    maps = sign * np.stack([np.full([SIDE, SIDE], value) for value in (0.500, 0.501)])[None]
    shown = opened(figures.tiles(maps, weights=True, inches=1.0))
    row = shown[len(shown) // 2]
    assert np.ptp(row[[30, 30 + figures.DOTS_PER_INCH]]) > 80  # a point of each of the two tiles


def test_every_other_figure_is_a_picture_of_its_own_size() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 200)
    pictures = [
        figures.scatter(random.normal(size=[200, 2]), labels, "x", "y"),
        figures.bars(["0", "1"], np.array([100.0, 90.0]), np.array([5.0, 6.0]), np.array([1.0, 2.0])),
        figures.confusion(np.eye(10, dtype=int)),
        figures.reliability(random.random(200), random.random(200) < 0.5),
        figures.titled(random.random([5, SIDE, SIDE]), list("abcde"), 3),
    ]
    for content in pictures:
        shown = opened(content)
        assert min(shown.shape) > 150
        assert shown.std() > 5
        assert len(content) < 100_000
