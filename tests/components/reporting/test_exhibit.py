import io
import json

import numpy as np
import pytest
from PIL import Image

from components.reporting import exhibit, sprites
from schemas import CLASSES, SIDE


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def test_a_sprite_has_ink_as_opacity_and_paper_transparent() -> None:
    images = np.zeros([2, 3, SIDE, SIDE])
    images[0, 0], images[1, 2] = 1.0, 0.5
    shown = np.asarray(opened(sprites.sprite(images)).convert("RGBA"))
    assert shown.shape == (2 * SIDE, 3 * SIDE, 4)
    assert (shown[:SIDE, :SIDE, 3] == 255).all()
    assert (shown[:SIDE, SIDE:, 3] == 0).all()
    assert abs(int(shown[-1, -1, 3]) - 128) < 10
    assert not shown[..., :3].any()


def test_values_that_are_no_ink_do_not_break_a_sprite() -> None:
    images = np.full([1, 1, SIDE, SIDE], np.nan)
    images[0, 0, 0, :4] = [-3.0, 9.0, np.inf, -np.inf]
    shown = np.asarray(opened(sprites.sprite(images)).convert("RGBA"))[0, :4, 3]
    assert list(shown) == [0, 255, 255, 0]


def test_the_last_row_of_a_grid_is_filled_with_empty_images() -> None:
    found = sprites.grid(np.ones([5, SIDE, SIDE], np.float32), 3)
    assert found.shape == (2, 3, SIDE, SIDE)
    assert found[1, 2].sum() == 0


@pytest.mark.parametrize(("count", "most"), [(1, 400), (7, 400), (2000, 400), (400, 400)])
def test_indices_are_spread_over_all_images_without_repetition(count: int, most: int) -> None:
    chosen = exhibit.spread(count, most)
    assert len(set(chosen)) == len(chosen) == min(count, most)
    assert chosen.min() == 0
    assert chosen.max() <= count - 1


@pytest.mark.parametrize("counts", [[3], [1, 1], [0, 5, 2]])
def test_any_classes_and_any_number_of_images_can_be_shown(counts: list[int]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    images = np.random.default_rng(0).random([len(labels), SIDE, SIDE])
    facts, files = exhibit.originals(exhibit.Images(np.arange(len(labels)), images, labels))
    assert facts["digits"] == sorted(set(labels.tolist()))
    assert facts["points"] == labels.tolist()
    assert opened(files[0].content).size == (SIDE * len(facts["digits"]), SIDE)
    json.dumps(facts)


def test_positions_in_a_plane_of_two_units_are_prior_quantiles() -> None:
    latents = np.array([[0.0, 0.0], [1.959964, -1.959964]])
    test = exhibit.Images(np.arange(2), np.zeros([2, SIDE, SIDE]), np.array([0, 1]))
    seen = []

    def call(signature: str, output: str, **inputs: np.ndarray) -> np.ndarray:
        seen.append(inputs)
        return np.zeros([len(next(iter(inputs.values()))), SIDE, SIDE])

    facts, files = exhibit.plane(call, test, latents, normal=True)
    inside = 1 - 2 * exhibit.MARGIN
    assert facts["positions"][0] == [0.5, 0.5]
    assert facts["positions"][1] == pytest.approx(
        [(0.975 - exhibit.MARGIN) / inside, (0.025 - exhibit.MARGIN) / inside], abs=1e-3
    )
    grid = seen[0]["latents"].reshape(exhibit.SIDE_OF_GRID, exhibit.SIDE_OF_GRID, 2)
    assert grid[0, 0] == pytest.approx([-2.0537, 2.0537], abs=1e-3)  # upper left: low x, high y
    assert [each.name for each in files] == ["plane.png", "rebuilt.png"]


def test_a_plane_of_more_units_goes_through_the_mean_along_the_widest_directions() -> None:
    rng = np.random.default_rng(0)
    latents = rng.normal(size=[500, 4]) * [0.1, 5.0, 0.2, 2.0] + [1.0, 2.0, 3.0, 4.0]
    test = exhibit.Images(np.arange(500), np.zeros([500, SIDE, SIDE]), np.zeros(500, int))
    seen = []

    def call(signature: str, output: str, **inputs: np.ndarray) -> np.ndarray:
        seen.append(inputs)
        return np.zeros([len(next(iter(inputs.values()))), SIDE, SIDE])

    facts, _ = exhibit.plane(call, test, latents, normal=True)
    decoded = seen[0]["latents"]
    assert decoded.mean(axis=0) == pytest.approx(latents.mean(axis=0), abs=1e-3)
    assert decoded.std(axis=0).argsort()[::-1][:2].tolist() == [1, 3]
    assert np.std(np.array(facts["positions"])[:, 0]) == pytest.approx(1 / exhibit.DEVIATIONS / 2, rel=0.05)


def test_a_reading_counts_confusions_and_ranks_mistakes_by_their_cost() -> None:
    labels = np.array([0, 1, 2, 2])
    probabilities = np.full([4, CLASSES], 0.01)
    for image, (guess, share) in enumerate([(0, 0.9), (2, 0.6), (2, 0.8), (3, 0.95)]):
        probabilities[image, guess] = share
    test = exhibit.Images(np.arange(4), np.zeros([4, SIDE, SIDE]), labels)
    facts, _ = exhibit.reading(probabilities, test)
    assert np.array(facts["confusion"]).sum() == 4
    assert facts["confusion"][2][3] == facts["confusion"][1][2] == 1
    assert [found[:2] for found in facts["mistaken"]] == [[1, 2], [2, 3]]
    assert facts["read"][3] == [3, 0.95]
