"""Find the files of a data set in the forms in which data sets are published, and read them block by block.

Read are the four IDX files of MNIST, IDX files of other types and names (torchvision's folders, QMNIST,
EMNIST), .npz and .npy arrays (Keras, Kuzushiji-49), and folders of PNG images by class. A run and `latentline
import` read through this module alone, and `paths` names every file of which a byte is read.
"""

import contextlib
import dataclasses
import hashlib
import io
import math
import os
import re
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from components.ingest import idx
from schemas import AREA, BINARY, GREY, PAD, SIDE, TEST_SPLIT, TRAIN_SPLIT

Array = npt.NDArray[Any]
Report = Callable[[str], None]

BLOCK = 4096
"""Images read at a time."""
SPLITS = {"train": TRAIN_SPLIT, "test": TEST_SPLIT, "t10k": TEST_SPLIT, "eval": TEST_SPLIT}
KINDS = {"images": "images", "imgs": "images", "x": "images", "labels": "labels", "y": "labels"}
TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
"""NumPy's name of each type of value in an IDX file."""
FORMS = (
    "expected images and labels of train and test as IDX, npz or npy files, or train/CLASS/*.png and "
    "test/CLASS/*.png"
)
PICTURES = (".png", ".jpg", ".jpeg")
"""How the names of files of one image end."""
_WORDS = re.compile(r"[a-zA-Z0-9]+")
_DELIVERY = re.compile(r"(span|version)-.*|\..*", re.DOTALL)
"""Names of folders in which no data set is looked for: deliveries, which `--spans` reads, and hidden ones."""


class Choices(NamedTuple):
    """What the user decides about the reading of a data set."""

    subset: str = ""  # what the names of the files begin with, where a folder holds several data sets
    resize: str = ""  # schemas.PAD, AREA, or empty to refuse images of another size
    scale: bool = False  # whether values from 0 to 1 become 0 to 255


class Reading(NamedTuple):
    """How the files of a data set are read: what the settings of the same names say."""

    pixels: str = GREY
    subset: str = ""
    resize: str = ""
    scale: bool = False

    @property
    def choices(self) -> Choices:
        """What of it concerns the form of the files."""
        return Choices(self.subset, self.resize, self.scale)


AS_THEY_ARE = Choices()
"""Whatever a folder holds, as grey values of SIDE x SIDE."""
GREY_VALUES = Reading()
"""The same, where pixels may be something else."""


class Values(NamedTuple):
    """Where one array of numbers is stored."""

    path: str
    member: str = ""  # the name of the array in an .npz archive of several
    turned: bool = False  # whether each image is stored transposed, as EMNIST's are


class Arrays(NamedTuple):
    """A split whose images and labels are two arrays."""

    images: Values
    labels: Values
    twins: tuple[str, ...] = ()  # gzipped files of the same content, which were compared with those taken


class Pictures(NamedTuple):
    """A split whose images are PNG files in one folder per class."""

    files: tuple[tuple[str, int], ...]  # path and label


Part = Arrays | Pictures
"""The files of one split of one data set or delivery."""


def find(place: str, subset: str = "", report: Report = lambda line: None) -> dict[str, Part]:
    """Return the files of both splits of the data set in a file or folder, by split.

    A folder's own files come first; if it has none, the one folder below it that has some is taken, such as
    torchvision's MNIST/raw. One line to `report` states each decision. Raises idx.IdxError if a file is
    missing, if several compete, and if several data sets are found.
    """
    if not idx.is_remote(place) and os.path.isfile(place):
        return _whole(place, _in_archive(place))
    if found := _in_folder(place, subset):
        return _checked(place, found, report)
    below: dict[str, dict[str, Part]] = {}
    if not idx.is_remote(place):
        if pictures := _pictures(place, report):
            return _whole(place, pictures)
        below = {folder: parts for folder in _below(place, depth=2) if (parts := _in_folder(folder, subset))}
    if len(below) > 1:
        names = ", ".join(idx.shown(os.path.relpath(folder, place)) for folder in below)
        raise idx.IdxError(
            f"{idx.shown(place)}: holds several data sets ({names}), expected one; give the folder of one"
        )
    for folder, parts in below.items():
        report(f"reading {idx.shown(folder)}")
        return _checked(place, parts, report)
    if subset:
        raise idx.IdxError(
            f"{idx.shown(place)}: no file of a data set begins with {idx.shown(subset)}, expected the "
            "beginning of the names of one; correct --subset or leave it out"
        )
    idx.split_files(place)  # raises: what is missing of MNIST's four files is named
    raise AssertionError("a folder of four files was not taken")


def paths(part: Part) -> list[str]:
    """Return every file that finding and reading a part reads, once."""
    if isinstance(part, Pictures):
        return [path for path, _ in part.files]
    return list(dict.fromkeys([part.images.path, part.labels.path, *part.twins]))


def count(part: Part) -> int:
    """Return how many images a part holds, by the header of their file. Raises idx.IdxError."""
    if isinstance(part, Pictures):
        return len(part.files)
    with _opened(part.images, "images", Choices(), None) as stream:
        return stream.count


def blocks(part: Part, choices: Choices, digests: dict[str, str]) -> Iterator[idx.Images]:
    """Yield the images uint8 [n, SIDE, SIDE] and labels uint8 [n] of a part, up to BLOCK at a time.

    digests: receives, after the last block, the SHA-256 of the stored bytes of each of `paths`; a file whose
    bytes have changed since an earlier part of the same file was read gets none that any file has.
    Raises idx.IdxError.
    """
    reading = _Digests()
    yield from (
        _drawn(part, choices, reading) if isinstance(part, Pictures) else _paired(part, choices, reading)
    )
    for path, digest in reading.finished(paths(part)).items():
        digests[path] = digest if digests.get(path, digest) == digest else f"changed from {digests[path]}"


def read(place: str, choices: Choices, report: Report = lambda line: None) -> dict[str, idx.Images]:
    """Return images uint8 [N, SIDE, SIDE] and labels uint8 [N] by split, in memory. Raises idx.IdxError."""
    parts = find(place, choices.subset, report)
    return {split: joined(blocks(part, choices, {})) for split, part in parts.items()}


def images_in(path: str, choices: Choices) -> idx.Bytes:
    """Return the images of one file, uint8 [N, SIDE, SIDE], in memory. Raises idx.IdxError.

    path: an IDX file of images, plain or gzipped; an array of one or more images, .npy or .npz; or one PNG or
    JPEG image, whose colours become grey values.
    """
    if not idx.is_remote(path) and not os.path.isfile(path):
        found = "is a folder" if os.path.isdir(path) else "does not exist"
        raise idx.IdxError(
            f"{idx.shown(path)}: {found}, expected an IDX, .npy, .npz, PNG or JPEG file; give one"
        )
    if path.lower().endswith(PICTURES):
        array = _picture(path, _Digests())
    else:
        with _opened(Values(path), "images", choices, _Digests()) as stream:
            if not stream.count:
                raise idx.IdxError(
                    f"{idx.shown(path)}: holds no images, expected at least 1; give a file with images"
                )
            array = stream.read(stream.count)
    single = array.ndim == 2 and array.shape[0] == array.shape[1]
    return to_images(array[None] if single else array, choices, idx.shown(path))


def joined(parts: Iterator[idx.Images]) -> idx.Images:
    """Return the images and labels of all parts together, in their order."""
    images, labels = zip(*parts, strict=True)
    return idx.Images(np.concatenate(images), np.concatenate(labels))


def to_grey(blocks: Iterable[idx.Images], pixels: str, split: str) -> Iterator[idx.Images]:
    """Yield the blocks with grey values 0 to 255; BINARY ones hold 0 and 1, or 0 and 255.

    Raises idx.IdxError, at the block that shows that the split is not binary.
    """
    found: set[int] = set()
    for block in blocks:
        if pixels == GREY:
            yield block
            continue
        found |= set(np.flatnonzero(np.bincount(block.images.ravel(), minlength=256)).tolist())
        if not (found <= {0, 1} or found <= {0, 255}):
            shown = ", ".join(map(str, sorted(found)[:5])) + (", ..." if len(found) > 5 else "")
            raise idx.IdxError(
                f"{split} split: its pixels have the values {shown}, expected 0 and 1, or 0 and 255, "
                f"since `pixels` is {BINARY}; set `pixels: {GREY}` or binarize the images"
            )
        yield block._replace(images=block.images * np.uint8(255) if found <= {0, 1} else block.images)


def to_images(array: Array, choices: Choices, what: str) -> idx.Bytes:
    """Return images of any usual shape and type as uint8 [N, SIDE, SIDE]. Raises idx.IdxError."""
    if array.ndim == 4 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim == 2 and math.isqrt(array.shape[1]) ** 2 == array.shape[1]:
        array = array.reshape(len(array), math.isqrt(array.shape[1]), -1)
    if array.ndim != 3:
        shape = "x".join(map(str, array.shape))
        raise idx.IdxError(
            f"{what}: have the shape {shape}, expected N x rows x columns; convert them to grey values"
        )
    grey = _to_grey(array, choices.scale, what)
    return _resized(grey, choices.resize, what) if grey.shape[1:] != (SIDE, SIDE) else grey


def to_labels(array: Array, what: str) -> idx.Bytes:
    """Return labels as uint8 [N]; of QMNIST's 8 numbers per image, the first. Raises idx.IdxError."""
    if array.ndim == 2 and array.shape[1] in (1, 8):
        array = array[:, 0]
    whole = array.ndim == 1 and array.dtype.kind in "iuf" and bool(np.all(array == np.round(array)))
    if not whole or (array.size and (array.min() < 0 or array.max() > 255)):
        shape = "x".join(map(str, array.shape))
        raise idx.IdxError(
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
            raise idx.IdxError(
                f"{what}: have values from {low:.4g} to {high:.4g}, expected 0 to 1 for --scale; leave it out"
            )
        scaled: idx.Bytes = np.round(array * 255.0).astype(np.uint8)
        return scaled
    if array.dtype.kind == "f" and not np.all(array == np.round(array)):
        raise idx.IdxError(
            f"{what}: are fractions from {low:.4g} to {high:.4g}, expected whole numbers from 0 to 255; "
            "give --scale if they are grey values from 0 to 1"
        )
    if array.dtype.kind not in "iuf" or low < 0 or high > 255:
        raise idx.IdxError(
            f"{what}: are {array.dtype} from {low:.4g} to {high:.4g}, expected grey values from 0 to 255; "
            "scale them first"
        )
    return array.astype(np.uint8)


def _resized(images: idx.Bytes, how: str, what: str) -> idx.Bytes:
    rows, columns = images.shape[1:]
    if not how:
        raise idx.IdxError(
            f"{what}: are {rows}x{columns} pixels, expected {SIDE}x{SIDE}; give --resize {PAD} or {AREA}"
        )
    if how == AREA:
        from PIL import Image

        box = Image.Resampling.BOX
        return np.stack([np.asarray(Image.fromarray(image).resize((SIDE, SIDE), box)) for image in images])
    if max(rows, columns) > SIDE:
        raise idx.IdxError(
            f"{what}: are {rows}x{columns} pixels, expected at most {SIDE}x{SIDE} for --resize {PAD}; "
            f"give --resize {AREA}"
        )
    top, left = (SIDE - rows) // 2, (SIDE - columns) // 2
    return np.pad(images, ((0, 0), (top, SIDE - rows - top), (left, SIDE - columns - left)))


def _checked(place: str, found: dict[str, Part], report: Report) -> dict[str, Part]:
    """Return the parts if both splits are there, and report that images are turned. Raises idx.IdxError."""
    if any(isinstance(part, Arrays) and part.images.turned for part in found.values()):
        report("EMNIST stores its images transposed: they are turned")
    return _whole(place, found)


def _whole(place: str, found: dict[str, Part]) -> dict[str, Part]:
    """Return the parts in the order of splits; raise idx.IdxError if a split is missing."""
    for split in idx.PREFIXES:
        if split not in found:
            raise idx.IdxError(
                f"{idx.shown(place)}: has no images of the {split} split, {FORMS}; "
                "give the folder that holds them"
            )
    return {split: found[split] for split in idx.PREFIXES}


def _in_folder(folder: str, subset: str) -> dict[str, Part]:
    """Return what the files of a folder are by their names, split by split; empty if none is data."""
    names = idx.file_names(folder)
    if not subset and idx.is_complete(names):
        return {
            split: Arrays(Values(pair.images), Values(pair.labels), tuple(idx.twins(folder, names, split)))
            for split, pair in idx.split_files(folder).items()
        }
    own = [name for name in names if name.startswith(subset)]
    if found := _by_words(folder, own):
        return found
    archives = [name for name in own if name.endswith(".npz")]
    if len(archives) > 1:
        raise idx.IdxError(
            f"{idx.shown(folder)}: holds {len(archives)} archives ({', '.join(map(idx.shown, archives))}), "
            "expected one; give the path of one"
        )
    return _in_archive(f"{folder.rstrip('/')}/{archives[0]}") if archives else {}


def _by_words(folder: str, names: Sequence[str]) -> dict[str, Part]:
    """Return the parts by the words in the names of files, such as x_train.npy. Raises idx.IdxError."""
    candidates: dict[tuple[str, str], list[str]] = {}
    for name in names:
        key = _key(name)
        # IDX names its type in words such as idx3; an array that is neither is no data.
        data = re.search(r"idx\d", name) and not name.endswith((".xz", ".part"))
        if key and (data or name.endswith((".npy", ".npz"))):
            candidates.setdefault(key, []).append(name)
    if not candidates:
        return {}
    if idx.fits_any(names) and len(candidates) < len(idx.PREFIXES) * len(idx.KINDS):
        return {}  # MNIST's own names: their missing file is named as such
    found: dict[str, Part] = {}
    for split in idx.PREFIXES:
        chosen: dict[str, Values] = {}
        twins: list[str] = []
        for kind in idx.KINDS:
            if (split, kind) not in candidates:
                raise idx.IdxError(
                    f"{idx.shown(folder)}: has no {kind} of the {split} split, {FORMS}; "
                    "give the folder that holds them"
                )
            first, others = _one_of(folder, (split, kind), sorted(candidates[split, kind]))
            turned = kind == "images" and os.path.basename(first).lower().startswith("emnist")
            chosen[kind] = Values(first, turned=turned)
            twins += others
        found[split] = Arrays(**chosen, twins=tuple(twins))
    return found


def _one_of(folder: str, key: tuple[str, str], names: Sequence[str]) -> tuple[str, list[str]]:
    """Return the one file to read, and those of the same content beside it. Raises idx.IdxError."""
    places = [f"{folder.rstrip('/')}/{name}" for name in names]
    if len({name.removesuffix(".gz") for name in names}) > 1:
        raise idx.IdxError(
            f"{idx.shown(folder)}: {', '.join(map(idx.shown, names))} all are {key[0]} {key[1]}, "
            "expected one file of each; choose a data set by the beginning of its names with --subset"
        )
    if len(names) > 1 and not idx.same_content(*places):
        raise idx.IdxError(
            f"{idx.shown(folder)}: {' and '.join(map(idx.shown, names))} differ in content, "
            "expected the same content; remove the one that is out of date"
        )
    return places[0], places[1:]


def _key(name: str) -> tuple[str, str] | None:
    """Return split and kind by the words of a name, such as x_train or k49-test-labels, or None."""
    words = [word.lower() for word in _WORDS.findall(name)]
    splits = [SPLITS[word] for word in words if word in SPLITS]
    kinds = [KINDS[word] for word in words if word in KINDS]
    return (splits[0], kinds[0]) if splits and kinds else None


def _below(place: str, depth: int) -> Iterator[str]:
    """Yield the folders up to `depth` levels below; those that may not be listed are left out."""
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(place)):
            folder = os.path.join(place, name)
            if os.path.isdir(folder) and not _DELIVERY.fullmatch(name):
                yield folder
                if depth > 1:
                    yield from _below(folder, depth - 1)


def _in_archive(path: str) -> dict[str, Part]:
    """Return the arrays of one archive, such as Keras's x_train and y_train. Raises idx.IdxError."""
    if not path.endswith(".npz"):
        raise idx.IdxError(
            f"{idx.shown(path)}: is a single file, expected an .npz archive or a folder; give its folder"
        )
    with _unreadable_named(path), _local(path) as file, zipfile.ZipFile(file) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
    keys = {key: name for name in names if (key := _key(name))}
    missing = [
        f"{kind} of the {split} split"
        for split in idx.PREFIXES
        for kind in idx.KINDS
        if (split, kind) not in keys
    ]
    if missing:
        raise idx.IdxError(
            f"{idx.shown(path)}: has no {' and no '.join(missing)}, only "
            f"{', '.join(map(idx.shown, names)) or 'nothing'}, "
            "expected the arrays x_train, y_train, x_test and y_test; name them so"
        )
    return {
        split: Arrays(Values(path, keys[split, "images"]), Values(path, keys[split, "labels"]))
        for split in idx.PREFIXES
    }


def _pictures(place: str, report: Report) -> dict[str, Part]:
    """Return the files train/CLASS/*.png and test/CLASS/*.png; names of classes become numbers."""
    splits: dict[str, str] = {}
    for name in sorted(SPLITS.keys() & set(os.listdir(place))):
        if os.path.isdir(os.path.join(place, name)):
            if SPLITS[name] in splits:
                raise idx.IdxError(
                    f"{idx.shown(place)}: {splits[SPLITS[name]]} and {name} both are the {SPLITS[name]} "
                    "split, expected one folder; move the other away"
                )
            splits[SPLITS[name]] = name
    images: dict[str, dict[str, list[str]]] = {}
    others: list[str] = []
    for split, name in splits.items():
        for each in sorted(_folders(os.path.join(place, name))):
            folder = os.path.join(place, name, each)
            names = idx.file_names(folder)
            pngs = [os.path.join(folder, file) for file in names if is_png(file)]
            others += [f"{name}/{each}"] if not pngs else []
            others += [f"{name}/{each}/{file}" for file in names if not is_png(file) and file[0] != "."]
            if pngs:
                images.setdefault(split, {})[each] = pngs
    if not images:
        return {}
    if others:
        shown = ", ".join(map(idx.shown, others[:5])) + (
            f" and {len(others) - 5:,} more" if others[5:] else ""
        )
        report(f"{idx.shown(place)}: not taken, since only folders of .png files are: {shown}")
    numbers = _numbered(place, sorted({name for own in images.values() for name in own}), report)
    return {
        split: Pictures(tuple((path, numbers[name]) for name, own in classes.items() for path in own))
        for split, classes in images.items()
    }


def _numbered(place: str, names: Sequence[str], report: Report) -> dict[str, int]:
    """Return the number of each class: its name, if all names are numbers, else its place in their order."""
    if not all(re.fullmatch(r"\d{1,3}", name) for name in names):
        report(f"classes by name: {', '.join(f'{name} is {number}' for number, name in enumerate(names))}")
        return {name: number for number, name in enumerate(names)}
    numbers = {name: int(name) for name in names}
    if len(set(numbers.values())) < len(names) or max(numbers.values()) > 255:
        raise idx.IdxError(
            f"{idx.shown(place)}: the classes are called {', '.join(names)}, expected different "
            "numbers from 0 to 255; rename the folders"
        )
    return numbers


def is_png(name: str) -> bool:
    """Return whether a name is that of a PNG image."""
    return name.lower().endswith(".png") and not name.startswith(".")


def _folders(place: str) -> list[str]:
    return [name for name in os.listdir(place) if os.path.isdir(os.path.join(place, name)) and name[0] != "."]


@dataclasses.dataclass(frozen=True)
class _Stream:
    """An array of N items that is read in their order."""

    count: int
    read: Callable[[int], Array]  # the next items, at most so many


class _Digests:
    """The SHA-256 of the files of a part, taken of the very bytes that are read."""

    def __init__(self) -> None:
        self.running: dict[str, Any] = {}  # hash objects, updated with what is read of a file
        self.known: dict[str, str] = {}  # of files that are not read from their beginning to their end

    def of(self, path: str) -> Any:
        """Return a new hash object for a file."""
        return self.running.setdefault(path, hashlib.sha256())

    def note(self, path: str, digest: str) -> None:
        """Keep the digest of a file; one that was read twice must have had the same bytes."""
        if self.known.setdefault(path, digest) != digest:
            self.known[path] = "changed while it was read"

    def finished(self, paths: Sequence[str]) -> dict[str, str]:
        """Return the digests of all the files; of those that were only compared, taken now."""
        read = {path: digest.hexdigest() for path, digest in self.running.items()} | self.known
        return {path: read.get(path) or idx.stored_digest(path) for path in paths}


def _paired(part: Arrays, choices: Choices, digests: _Digests) -> Iterator[idx.Images]:
    """Yield the blocks of two arrays. Raises idx.IdxError, also if their numbers of items differ."""
    images_at, labels_at = idx.shown(part.images.path), idx.shown(part.labels.path)
    with (
        _opened(part.labels, "labels", choices, digests) as labels,
        _opened(part.images, "images", choices, digests) as images,
    ):
        if images.count != labels.count:
            raise idx.IdxError(
                f"{images_at}: holds {images.count:,} images but {labels_at} {labels.count:,} labels, "
                "expected as many; take both files from the same data set and split"
            )
        if not images.count:
            raise idx.IdxError(f"{images_at}: holds no images, expected at least 1; give a file with images")
        for first in range(0, images.count, BLOCK):
            size = min(BLOCK, images.count - first)
            found = labels.read(size)
            drawn = images.read(size)
            if part.images.turned and drawn.ndim == 3:
                drawn = drawn.transpose(0, 2, 1)
            yield idx.Images(
                np.ascontiguousarray(to_images(drawn, choices, f"{images_at}: images")),
                to_labels(found, f"{labels_at}: labels"),
            )


def _drawn(part: Pictures, choices: Choices, digests: _Digests) -> Iterator[idx.Images]:
    """Yield the blocks of a split of PNG files. Raises idx.IdxError."""
    for first in range(0, len(part.files), BLOCK):
        own = part.files[first : first + BLOCK]
        images = [to_images(_picture(path, digests)[None], choices, idx.shown(path)) for path, _ in own]
        yield idx.Images(np.concatenate(images), np.array([label for _, label in own], np.uint8))


def _picture(path: str, digests: _Digests) -> Array:
    """Return the grey values of an image file, uint8 [rows, columns]. Raises idx.IdxError."""
    from PIL import Image, UnidentifiedImageError

    with idx.stored(path) as file:
        content = file.read()
    digests.note(path, hashlib.sha256(content).hexdigest())
    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(image.convert("L"))
    except (UnidentifiedImageError, SyntaxError, OSError) as error:
        raise idx.IdxError(
            f"{idx.shown(path)}: cannot be read ({idx.reason(error)}), expected a PNG or JPEG image; save it "
            "again or leave it out"
        ) from error


@contextlib.contextmanager
def _opened(values: Values, kind: str, choices: Choices, digests: _Digests | None) -> Iterator[_Stream]:
    """Open an array in any form. Raises idx.IdxError. digests: None if only the header is read."""
    path = values.path
    running = digests.of(path) if digests and not path.endswith(".npz") else None
    if path.endswith(".npz"):
        with _unreadable_named(path), _local(path) as file:
            with zipfile.ZipFile(file) as archive, archive.open(_member(path, archive, values)) as member:
                yield _of_npy(path, cast(BinaryIO, member))
            if digests:
                # The file that is open is the one that was read, whatever now has its name.
                file.seek(0)
                digests.note(path, hashlib.file_digest(file, "sha256").hexdigest())
    elif path.endswith(".npy"):
        with _unreadable_named(path), idx.stored(path, running) as file:
            yield _of_npy(path, file)
    elif _is_converted(path, kind, choices):
        with idx.opened(path, running) as file:
            yield _of_idx(path, file)
    else:
        with idx.items(path, kind, running) as reader:
            yield _Stream(reader.count, reader.read)


def _is_converted(path: str, kind: str, choices: Choices) -> bool:
    """Return whether an IDX file has another type or shape than MNIST's that can be converted."""
    with idx.opened(path) as file:
        start = file.read(4)
        if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in TYPES:
            return False
        rank = start[3]
        sizes = file.read(4 * rank)
    if len(sizes) < 4 * rank:
        return False
    shape = struct.unpack(f">{rank}I", sizes)
    if kind == "labels":
        return (rank == 1 and start[2] != idx.UNSIGNED_BYTE) or (rank == 2 and shape[1] in (1, 8))
    if rank == 3:
        other_size = shape[1:] != (SIDE, SIDE)
        return bool(choices.resize) if other_size else start[2] != idx.UNSIGNED_BYTE or choices.scale
    return (rank == 4 and shape[3] == 1) or (rank == 2 and math.isqrt(shape[1]) ** 2 == shape[1])


def _of_idx(path: str, file: BinaryIO) -> _Stream:
    """Return the items of an IDX file of any type and shape."""
    start = file.read(4)
    shape = struct.unpack(f">{start[3]}I", file.read(4 * start[3]))
    return _stream(path, file, shape, np.dtype(TYPES[start[2]]))


def _of_npy(path: str, file: BinaryIO) -> _Stream:
    """Return the items of an array that NumPy saved; objects, which could run code, are refused."""
    reader: Any = np.lib.format
    version = reader.read_magic(file)
    header = {
        (1, 0): reader.read_array_header_1_0,
        (2, 0): reader.read_array_header_2_0,
    }.get(version)
    if header is None:
        raise ValueError(f"version {version[0]}.{version[1]} of NumPy's format")
    shape, by_columns, kind = header(file)
    if kind.hasobject or kind.fields or not shape:
        raise ValueError(f"holds values of type {kind} and shape {shape}")
    if not by_columns:
        return _stream(path, file, shape, kind)
    # By columns, the first item lies everywhere in the file.
    whole = _stream(path, file, shape[::-1], kind).read(shape[-1]).transpose()
    done = 0

    def read(size: int) -> Array:
        nonlocal done
        done += size
        return whole[done - size : done]

    return _Stream(len(whole), read)


def _stream(path: str, file: BinaryIO, shape: tuple[int, ...], kind: np.dtype[Any]) -> _Stream:
    """Return the items of an array of that shape and type, whose values begin here."""
    per_item = math.prod(shape[1:]) * kind.itemsize
    left = shape[0]

    def read(size: int) -> Array:
        nonlocal left
        content = bytearray()
        while len(content) < size * per_item:
            chunk = file.read(min(idx.CHUNK_BYTES, size * per_item - len(content)))
            if not chunk:
                raise idx.IdxError(
                    f"{idx.shown(path)}: ends before the {shape[0]:,} items that its header promises; "
                    "fetch or copy the file again"
                )
            content += chunk
        left -= size
        # Reading past the last value makes gzip and zipfile check their CRC.
        if not left and file.read(1):
            raise idx.IdxError(
                f"{idx.shown(path)}: goes on after the {shape[0]:,} items that its header promises, expected "
                "the end; fetch or copy the file again"
            )
        return np.frombuffer(content, kind).reshape(size, *shape[1:])

    return _Stream(shape[0], read)


def _member(path: str, archive: zipfile.ZipFile, values: Values) -> str:
    names = [name for name in archive.namelist() if name.endswith(".npy")]
    if values.member:
        return f"{values.member}.npy"
    if len(names) != 1:
        raise idx.IdxError(
            f"{idx.shown(path)}: holds {len(names)} arrays, expected 1; save each in a file of its own"
        )
    return names[0]


@contextlib.contextmanager
def _unreadable_named(path: str) -> Iterator[None]:
    """Turn what NumPy and zipfile raise about a file into an idx.IdxError that names it."""
    try:
        yield
    except idx.IdxError:
        raise
    except (ValueError, EOFError, KeyError, NotImplementedError, RuntimeError, zipfile.BadZipFile) as error:
        raise idx.IdxError(
            f"{idx.shown(path)}: cannot be read ({idx.reason(error)}), expected arrays of numbers saved by "
            "NumPy; save them again"
        ) from error


@contextlib.contextmanager
def _local(path: str) -> Iterator[io.BufferedReader]:
    if idx.is_remote(path):
        raise idx.IdxError(
            f"{idx.shown(path)}: is an archive behind a URL, expected a local path; copy it to a local folder"
        )
    with idx.stored(path) as file:
        yield file
