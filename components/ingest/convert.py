"""Convert the forms in which data sets are published into the four IDX files that a run reads.

Read are IDX files of any type and name (torchvision's folders, QMNIST, EMNIST), .npz and .npy arrays (Keras,
Kuzushiji-49), and folders of PNG images by class.
"""

import math
import os
import pathlib
import re
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from components.ingest import idx
from schemas import SIDE, TEST_SPLIT, TRAIN_SPLIT

Array = npt.NDArray[Any]
Report = Callable[[str], None]

PAD, AREA = RESIZE = ("pad", "area")
"""How images of another size become SIDE x SIDE: background around smaller ones, or averages over areas."""
SPLITS = {"train": TRAIN_SPLIT, "test": TEST_SPLIT, "t10k": TEST_SPLIT, "eval": TEST_SPLIT}
KINDS = {"images": "images", "imgs": "images", "x": "images", "labels": "labels", "y": "labels"}
TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
"""NumPy's name of each type of value in an IDX file."""
_WORDS = re.compile(r"[a-zA-Z0-9]+")


class ConversionError(ValueError):
    """Data that cannot be converted; one line says where, what was found, expected and what to do."""


class Choices(NamedTuple):
    """What the user decides about a conversion."""

    name: str = ""  # what the names of the files begin with, where a folder holds several data sets
    resize: str = ""  # PAD, AREA, or empty to refuse images of another size
    scale: bool = False  # whether values from 0 to 1 become 0 to 255


def convert(source: str, folder: str, choices: Choices, report: Report) -> dict[str, idx.Images]:
    """Write the data set in `source` to `folder` as four IDX files and return it; `folder` appears complete.

    Raises ConversionError, also if `folder` exists and is not empty.
    """
    target = pathlib.Path(folder).absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConversionError(
            f"{idx.shown(folder)}: exists and is not empty, expected a new folder; name another"
        )
    try:
        splits = read(source, choices, report)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".import-") as temporary:
            fresh = pathlib.Path(temporary) / "data"
            fresh.mkdir()
            for split, data in splits.items():
                for kind, array in zip(idx.KINDS, data, strict=True):
                    idx.write(str(fresh / f"{idx.PREFIXES[split]}-{kind}-idx{idx.KINDS[kind]}-ubyte"), array)
            if target.exists():
                target.rmdir()
            shutil.move(fresh, target)
    except idx.IdxError as error:
        raise ConversionError(str(error)) from error
    except OSError as error:
        raise ConversionError(
            f"{idx.shown(error.filename or folder)}: {idx.reason(error)}; check the path and its permissions"
        ) from error
    return splits


def read(source: str, choices: Choices, report: Report) -> dict[str, idx.Images]:
    """Return images uint8 [N, SIDE, SIDE] and labels [N] of `source` by split. Raises ConversionError."""
    if idx.is_remote(source):
        raise ConversionError(f"{idx.shown(source)}: is a URL, expected a local path; download it first")
    place = pathlib.Path(source).expanduser()
    if not place.exists():
        raise ConversionError(f"{idx.shown(source)}: does not exist, expected a file or folder")
    arrays = _arrays(place, choices, report)
    found = {}
    for split in (TRAIN_SPLIT, TEST_SPLIT):
        missing = [kind for kind in idx.KINDS if (split, kind) not in arrays]
        if missing:
            raise ConversionError(
                f"{idx.shown(source)}: has no {' and no '.join(missing)} of the {split} split, expected "
                "images and labels of train and test as IDX, npz or npy files, or train/CLASS/*.png and "
                "test/CLASS/*.png; give the folder that holds them"
            )
        images = to_images(arrays[split, "images"], choices, f"{split} images")
        labels = to_labels(arrays[split, "labels"], f"{split} labels")
        if len(images) != len(labels) or not len(images):
            raise ConversionError(
                f"{idx.shown(source)}: {split} has {len(images):,} images and {len(labels):,} labels, "
                "expected as many and at least one; take both from the same data set"
            )
        found[split] = idx.Images(images, labels)
    return found


def to_images(array: Array, choices: Choices, what: str) -> idx.Bytes:
    """Return images of any usual shape and type as uint8 [N, SIDE, SIDE]. Raises ConversionError."""
    if array.ndim == 4 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim == 2 and math.isqrt(array.shape[1]) ** 2 == array.shape[1]:
        array = array.reshape(len(array), math.isqrt(array.shape[1]), -1)
    if array.ndim != 3:
        shape = "x".join(map(str, array.shape))
        raise ConversionError(
            f"{what}: have the shape {shape}, expected N x rows x columns; convert them to grey values"
        )
    grey = _to_grey(array, choices.scale, what)
    return _resized(grey, choices.resize, what) if grey.shape[1:] != (SIDE, SIDE) else grey


def to_labels(array: Array, what: str) -> idx.Bytes:
    """Return labels as uint8 [N]; of QMNIST's 8 numbers per image, the first. Raises ConversionError."""
    if array.ndim == 2 and array.shape[1] in (1, 8):
        array = array[:, 0]
    whole = array.ndim == 1 and array.dtype.kind in "iuf" and bool(np.all(array == np.round(array)))
    if not whole or (array.size and (array.min() < 0 or array.max() > 255)):
        shape = "x".join(map(str, array.shape))
        raise ConversionError(
            f"{what}: are {array.dtype} of shape {shape}, expected one whole number from 0 to 255 per image; "
            "convert them"
        )
    labels: idx.Bytes = array.astype(np.uint8)
    return labels


def _to_grey(array: Array, scale: bool, what: str) -> idx.Bytes:
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255)
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if scale:
        if not (low >= 0 and high <= 1):
            raise ConversionError(
                f"{what}: have values from {low:.4g} to {high:.4g}, expected 0 to 1 for --scale"
            )
        scaled: idx.Bytes = np.round(array * 255.0).astype(np.uint8)
        return scaled
    if array.dtype.kind == "f" and not np.all(array == np.round(array)):
        raise ConversionError(
            f"{what}: are fractions from {low:.4g} to {high:.4g}, expected whole numbers from 0 to 255; "
            "give --scale if they are grey values from 0 to 1"
        )
    if array.dtype.kind not in "iuf" or low < 0 or high > 255:
        raise ConversionError(
            f"{what}: are {array.dtype} from {low:.4g} to {high:.4g}, expected grey values from 0 to 255; "
            "scale them first"
        )
    return array.astype(np.uint8)


def _resized(images: idx.Bytes, how: str, what: str) -> idx.Bytes:
    rows, columns = images.shape[1:]
    if not how:
        raise ConversionError(
            f"{what}: are {rows}x{columns} pixels, expected {SIDE}x{SIDE}; give --resize {PAD} or {AREA}"
        )
    if how == AREA:
        from PIL import Image

        box = Image.Resampling.BOX
        return np.stack([np.asarray(Image.fromarray(image).resize((SIDE, SIDE), box)) for image in images])
    if max(rows, columns) > SIDE:
        raise ConversionError(
            f"{what}: are {rows}x{columns} pixels, expected at most {SIDE}x{SIDE} for --resize {PAD}; "
            f"give --resize {AREA}"
        )
    top, left = (SIDE - rows) // 2, (SIDE - columns) // 2
    return np.pad(images, ((0, 0), (top, SIDE - rows - top), (left, SIDE - columns - left)))


def _arrays(place: pathlib.Path, choices: Choices, report: Report) -> dict[tuple[str, str], Array]:
    """Return the arrays of a source by split and kind."""
    if place.is_file():
        return _of_npz(place)
    if any((place / split).is_dir() for split in SPLITS):
        return _of_pngs(place, report)
    for folder in (place, *_below(place)):
        names = [name for name in sorted(os.listdir(folder)) if name.startswith(choices.name)]
        files = _files(folder, names)
        if files:
            if folder != place:
                report(f"reading {_at(folder)}")
            arrays = {key: _of_file(folder / name) for key, name in files.items()}
            if any(name.lower().startswith("emnist") for name in files.values()):
                report("EMNIST stores its images transposed: they are turned")
                arrays = {
                    (split, kind): array.transpose(0, 2, 1) if kind == "images" and array.ndim == 3 else array
                    for (split, kind), array in arrays.items()
                }
            return arrays
        archives = [name for name in names if name.endswith(".npz")]
        if len(archives) == 1:
            return _of_npz(folder / archives[0])
    return {}


def _files(folder: pathlib.Path, names: Sequence[str]) -> dict[tuple[str, str], str]:
    """Return the one file of each split and kind, by the words in its name. Raises ConversionError."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in names:
        key = _key(name)
        # IDX names its type in words such as idx3; an array that is neither is no data.
        data = re.search(r"idx\d", name) and not name.endswith((".xz", ".part"))
        if key and (data or name.endswith((".npy", ".npz"))):
            found.setdefault(key, []).append(name)
    chosen = {}
    for key, candidates in found.items():
        stems = {name.removesuffix(".gz") for name in candidates}
        if len(stems) > 1:
            raise ConversionError(
                f"{_at(folder)}: {', '.join(map(idx.shown, candidates))} all are {key[0]} {key[1]}, "
                "expected one file of each; choose a data set by the beginning of its names with --name"
            )
        if len(candidates) > 1 and not idx.same_content(*(str(folder / name) for name in sorted(candidates))):
            raise ConversionError(
                f"{_at(folder)}: {' and '.join(map(idx.shown, sorted(candidates)))} differ in content, "
                "expected the same content; remove the one that is out of date"
            )
        chosen[key] = sorted(candidates)[0]
    return chosen


def _key(name: str) -> tuple[str, str] | None:
    """Return split and kind by the words of a name, such as x_train or k49-test-labels, or None."""
    words = [word.lower() for word in _WORDS.findall(name)]
    splits = [SPLITS[word] for word in words if word in SPLITS]
    kinds = [KINDS[word] for word in words if word in KINDS]
    return (splits[0], kinds[0]) if splits and kinds else None


def _below(place: pathlib.Path) -> list[pathlib.Path]:
    """Return the folders up to two levels below; torchvision keeps its files in NAME/raw."""
    children = sorted(child for child in place.iterdir() if child.is_dir())
    return [*children, *(grand for child in children for grand in sorted(child.iterdir()) if grand.is_dir())]


def _of_file(path: pathlib.Path) -> Array:
    if path.suffix == ".npy":
        return _load(path)
    if path.suffix == ".npz":
        arrays = list(_load(path).values())
        if len(arrays) != 1:
            raise ConversionError(f"{_at(path)}: holds {len(arrays)} arrays, expected 1")
        return arrays[0]
    return read_idx(str(path))


def _of_npz(path: pathlib.Path) -> dict[tuple[str, str], Array]:
    """Return the arrays of one archive by split and kind, such as Keras's x_train and y_train."""
    if path.suffix != ".npz":
        raise ConversionError(
            f"{_at(path)}: is a single file, expected an .npz archive or a folder; give its folder"
        )
    arrays: Mapping[str, Array] = _load(path)
    return {key: array for name, array in arrays.items() if (key := _key(name))}


def _load(path: pathlib.Path) -> Any:
    """Return an array, or the arrays of an archive by name; objects, which could run code, are refused."""
    try:
        loaded = np.load(path, allow_pickle=False)
        return loaded if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ConversionError(
            f"{_at(path)}: cannot be read ({idx.reason(error)}), expected arrays of numbers saved by "
            "NumPy; save them again"
        ) from error


def read_idx(path: str) -> Array:
    """Return the values of an IDX file of any type and shape. Raises ConversionError and idx.IdxError."""
    content = bytearray()
    for chunk in idx.chunks(path):
        content += chunk
        if len(content) > idx.LIMIT_BYTES:
            raise ConversionError(
                f"{idx.shown(path)}: is larger than {idx.LIMIT_BYTES:,} bytes, expected less; split the file"
            )
    if (
        len(content) < 4
        or content[:2] != b"\0\0"
        or content[2] not in TYPES
        or len(content) < 4 + 4 * content[3]
    ):
        raise ConversionError(
            f"{idx.shown(path)}: begins with 0x{bytes(content[:4]).hex()}, expected an IDX file"
        )
    rank = content[3]
    shape = struct.unpack(f">{rank}I", content[4 : 4 + 4 * rank])
    kind = np.dtype(TYPES[content[2]])
    expected = math.prod(shape) * kind.itemsize
    if len(content) - 4 - 4 * rank != expected:
        raise ConversionError(
            f"{idx.shown(path)}: holds {len(content) - 4 - 4 * rank:,} bytes of values, "
            f"expected {expected:,} by its header; fetch or copy the file again"
        )
    return np.frombuffer(content, kind, offset=4 + 4 * rank).reshape(shape)


def _of_pngs(place: pathlib.Path, report: Report) -> dict[tuple[str, str], Array]:
    """Return the images in train/CLASS/*.png and test/CLASS/*.png; names of classes become numbers."""
    folders = {
        SPLITS[child.name]: [each for each in sorted(child.iterdir()) if each.is_dir()]
        for child in sorted(place.iterdir())
        if child.is_dir() and child.name in SPLITS
    }
    names = sorted({folder.name for own in folders.values() for folder in own})
    if all(re.fullmatch(r"\d{1,3}", name) for name in names):
        numbers = {name: int(name) for name in names}
    else:
        numbers = {name: number for number, name in enumerate(names)}
        report(f"classes by name: {', '.join(f'{name} is {number}' for name, number in numbers.items())}")
    arrays: dict[tuple[str, str], Array] = {}
    for split, own in folders.items():
        pairs = [
            (_png(path), numbers[folder.name])
            for folder in own
            for path in sorted(folder.iterdir())
            if path.suffix.lower() == ".png"
        ]
        shapes = {image.shape for image, _ in pairs}
        if len(shapes) > 1:
            raise ConversionError(
                f"{_at(place)}: {split} images have {len(shapes)} sizes, expected one; resize them first"
            )
        if pairs:
            arrays[split, "images"] = np.stack([image for image, _ in pairs])
            arrays[split, "labels"] = np.array([label for _, label in pairs])
    return arrays


def _at(path: pathlib.Path) -> str:
    return idx.shown(str(path))


def _png(path: pathlib.Path) -> Array:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L"))
    except (UnidentifiedImageError, SyntaxError, OSError) as error:
        raise ConversionError(
            f"{_at(path)}: cannot be read ({idx.reason(error)}), expected a PNG image; remove the file"
        ) from error
