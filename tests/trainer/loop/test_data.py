import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from schemas import CLASSES, LABEL, PIXELS, PIXELS_FEATURE
from trainer import variants
from trainer.loop import data
from trainer.loop.fit import fit


def examples(count: int, seed: int = 0) -> data.Examples:
    draw = np.random.default_rng(seed)
    return data.Examples(
        draw.integers(0, 256, [count, PIXELS]).astype(np.uint8), draw.integers(0, CLASSES, count)
    )


def write(folder: pathlib.Path, found: data.Examples, name: str = "part.gz") -> None:
    options = tf.io.TFRecordOptions(compression_type="GZIP")
    with tf.io.TFRecordWriter(str(folder / name), options) as writer:
        for pixels, label in zip(*found, strict=True):
            features = {PIXELS_FEATURE: pixels.tolist(), LABEL: [int(label)]}
            record = tf.train.Example(
                features=tf.train.Features(
                    feature={
                        key: tf.train.Feature(int64_list=tf.train.Int64List(value=value))
                        for key, value in features.items()
                    }
                )
            )
            writer.write(record.SerializeToString())


def as_set(found: data.Examples) -> set[tuple[bytes, int]]:
    return {(pixels.tobytes(), int(label)) for pixels, label in zip(*found, strict=True)}


def test_every_example_is_read_once_as_bytes(tmp_path: pathlib.Path) -> None:
    written = examples(50)
    write(tmp_path, written)
    found = data.load((str(tmp_path / "*"),))
    assert found.pixels.dtype == np.uint8
    assert len(found.labels) == 50
    assert as_set(found) == as_set(written)


def test_the_order_does_not_depend_on_how_files_are_called(tmp_path: pathlib.Path) -> None:
    found = []
    for names in (("a.gz", "b.gz"), ("b.gz", "a.gz")):
        folder = tmp_path / names[0]
        folder.mkdir()
        write(folder, examples(20, seed=1), names[0])
        write(folder, examples(30, seed=2), names[1])
        found.append(data.load((str(folder / "*"),)))
    np.testing.assert_array_equal(found[0].pixels, found[1].pixels)
    np.testing.assert_array_equal(found[0].labels, found[1].labels)


def test_memory_grows_in_place_and_keeps_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "GROWTH_BYTES", 3 * PIXELS)
    parts = [examples(size, seed=size).pixels for size in (1, 4, 40, 2)]
    rows = data._Rows()
    for part in parts:
        rows.append(part)
    np.testing.assert_array_equal(rows.array(), np.concatenate(parts))


def test_the_steps_use_the_memory_that_was_read_and_copy_only_what_is_not_aligned(
    tmp_path: pathlib.Path,
) -> None:
    write(tmp_path, examples(50))
    found = data.load((str(tmp_path / "*"),))
    pixels, labels = data.tensors(found)
    np.testing.assert_array_equal(pixels, found.pixels)
    np.testing.assert_array_equal(labels, found.labels)
    memory = np.empty(4 * PIXELS + data.ALIGNMENT, np.uint8)
    for shift in (0, 1):
        start = -memory.ctypes.data % data.ALIGNMENT + shift
        rows = memory[start : start + 3 * PIXELS].reshape(3, PIXELS)
        rows[:] = 1
        shared = data.tensors(data.Examples(rows, np.zeros(3, np.int64)))[0]
        rows[0, 0] = 2
        assert shared[0, 0].numpy() == (1 if shift else 2)


def test_small_sets_stay_for_the_next_training_and_large_ones_do_not(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, examples(20))
    pattern = (str(tmp_path / "*"),)
    assert data.load(pattern) is data.load(pattern)
    for budget in range(1, data.KEPT + 2):
        data.load(pattern, budget=budget)
    assert len(data._kept) == data.KEPT
    data.clear()
    monkeypatch.setattr(data, "KEPT_BYTES", 19 * PIXELS)
    assert data.load(pattern) is not data.load(pattern)
    assert not data._kept


def test_above_the_budget_the_same_examples_in_the_same_order_come_from_disk(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "READ_BATCH", 16)
    write(tmp_path, examples(70))
    pattern = (str(tmp_path / "*"),)
    inside, outside = data.load(pattern), data.load(pattern, budget=20 * PIXELS)
    assert not isinstance(inside.pixels, np.memmap)
    assert isinstance(outside.pixels, np.memmap)
    np.testing.assert_array_equal(inside.pixels, outside.pixels)
    np.testing.assert_array_equal(inside.labels, outside.labels)


def test_training_from_disk_gives_the_weights_of_training_from_memory(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, examples(70))
    pattern = (str(tmp_path / "*"),)
    variant = variants.load("mlp")
    states = []
    for budget in (data.BUDGET_BYTES, 1):
        keras.utils.set_random_seed(0)
        model = variant.build({})
        found = data.load(pattern, budget=budget)
        fit(model, found, recipe=variant.recipe, steps=30, protocol="dynamic", seed=0, name="mlp")
        states.append([variable.numpy() for variable in model.state()])
    assert all(a.tobytes() == b.tobytes() for a, b in zip(*states, strict=True))


def test_rows_of_a_mapped_part_are_those_of_the_array(tmp_path: pathlib.Path) -> None:
    write(tmp_path, examples(40))
    mapped = data.load((str(tmp_path / "*"),), budget=1)
    chosen = np.array([29, 3, 3, 0])
    first = data.Examples(mapped.pixels[:-10], mapped.labels[:-10])
    assert isinstance(data.rows(first, chosen).pixels, np.ndarray)
    assert not isinstance(data.rows(first, chosen).pixels, np.memmap)
    np.testing.assert_array_equal(data.rows(first, chosen).pixels, np.array(mapped.pixels)[chosen])
    last = data.Examples(mapped.pixels[-10:], mapped.labels[-10:])
    np.testing.assert_array_equal(data.rows(last, chosen % 10).labels, mapped.labels[30:][chosen % 10])


def test_missing_and_empty_inputs_say_so(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="run the Transform component first"):
        data.load((str(tmp_path / "none-*"),))
    write(tmp_path, examples(0))
    with pytest.raises(ValueError, match="no examples in"):
        data.load((str(tmp_path / "*"),))


@pytest.mark.parametrize("batch", [1, 4, 10, 25])
def test_an_epoch_shows_every_example_once_in_another_order(batch: int) -> None:
    shown = data.batch_indices(10, batch, 0, 20, seed=3).ravel()
    epochs = shown[: len(shown) // 10 * 10].reshape(-1, 10)
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


@pytest.mark.parametrize("first", [0, 1, 7, 13])
def test_batches_are_the_same_from_wherever_one_starts(first: int) -> None:
    whole = data.batch_indices(10, 4, 0, 20, seed=3)
    np.testing.assert_array_equal(data.batch_indices(10, 4, first, 20 - first, seed=3), whole[first:])


def test_another_seed_gives_other_batches() -> None:
    assert not np.array_equal(data.batch_indices(99, 9, 0, 11, 0), data.batch_indices(99, 9, 0, 11, 1))
