"""Find the images of a run: in a folder, as MNIST (cached or downloaded), or as scikit-learn's digits."""

import concurrent.futures
import hashlib
import os
import pathlib
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import requests

import schemas
from components.ingest import formats, idx

MNIST = "mnist"
AUTO = "auto"
DIGITS = "digits"
DEMONSTRATION = "scikit-learn digits, 1,797 images upscaled to 28x28: a demonstration"
"""What stands for the name DIGITS wherever a user reads it, so that no result passes for one on MNIST."""
MNIST_DIR = "MNIST_DIR"
"""Environment variable: a folder that holds MNIST."""

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
"""Where MNIST is downloaded from, in this order; each address takes a file name at its end."""

CONNECT_SECONDS = 3.0
"""Longest wait for one network address of a mirror."""
ANSWER_SECONDS = 5.0
"""Longest wait for a mirror's answer, all its addresses and the look-up of its name included."""
SILENCE_SECONDS = 15.0
"""Longest wait for more bytes."""
ATTEMPTS = 5
"""Requests for one file to one mirror; the next is made only if the last one brought more bytes."""
PART_BYTES = 2**14
"""Bytes written at a time."""

OTHER_WAYS = f"give a folder that holds it with --data DIR or {MNIST_DIR}, or use --data {AUTO}"
WRITABLE = "expected a writable cache; make room or change its permissions, or give a folder with --data DIR"

BORDER = 4
"""Empty pixels around an enlarged digit, as around MNIST's."""
DARK, BRIGHT = 64, 224
"""Grey values that become 0 and 255, so that enlarged strokes are about as wide and as sharp as MNIST's."""
EVERY = 5
"""One digit of every class in so many is a test digit."""


class DataSourceError(ValueError):
    """Data that cannot be obtained: one line: found (also as `found`), expected, what to do next."""

    def __init__(self, found: str, expected: str = "") -> None:
        super().__init__(f"{found}, {expected}" if expected else found)
        self.found = found


class Dataset(NamedTuple):
    """A data set by its name and the folder of its four IDX files.

    named: the only folder that the name is of, where another may be given when a run starts; empty for
    whichever is read.
    """

    name: str  # "mnist" only when the files are the published ones
    folder: str
    named: str = ""


def title(name: str) -> str:
    """Return how a user reads the name of a data set."""
    return DEMONSTRATION if name == DIGITS else name


class Published(NamedTuple):
    """A published file: its name, its length in bytes and its checksum, all uncompressed."""

    name: str
    size: int
    sha256: str


PUBLISHED = (
    Published(
        "train-images-idx3-ubyte",
        47_040_016,
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    Published(
        "train-labels-idx1-ubyte",
        60_008,
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    Published(
        "t10k-images-idx3-ubyte",
        7_840_016,
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    Published(
        "t10k-labels-idx1-ubyte",
        10_008,
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)
"""MNIST: images and labels of the training split, then of the test split."""

Report = Callable[[str], None]


def locate(
    source: str,
    *,
    environment: Mapping[str, str],
    cache: pathlib.Path,
    report: Report,
    subset: str = "",
    mirrors: Sequence[str] = MIRRORS,
    published: Sequence[Published] = PUBLISHED,
    no_digits: Callable[[], str] = str,
) -> Dataset:
    """Find the data set that a source names, and download or write it where that is needed.

    "mnist": the folder MNIST_DIR of the environment, else cache / "mnist", filled from the mirrors when it
    has to be; nothing else is accepted. "auto": the same, but if MNIST can be neither found nor downloaded,
    the digits of scikit-learn, which one line to `report` says; a MNIST_DIR without MNIST stays an error, and
    so does what `no_digits` says, asked only then: why the digits may not take MNIST's place, or nothing.
    "digits": those digits. Anything else is a file or folder in a form that formats.find reads, local or
    gs:// (write ./mnist for a folder of that name); subset: as in formats.Choices.

    Progress goes to `report`, one line at a time. Raises DataSourceError.
    """
    if source == DIGITS:
        return write_digits(cache / DIGITS)
    if source not in (MNIST, AUTO):
        return from_folder(source, subset, published=published)
    if chosen := environment.get(MNIST_DIR):
        return _from_mnist_dir(chosen, published)
    try:
        return _from_cache(cache / MNIST, mirrors, published, report)
    except DataSourceError as error:
        if source == MNIST:
            raise
        if why := no_digits():
            raise DataSourceError(error.found, why) from error
        report(
            f"Could not download MNIST: {error.found}; this run uses the handwritten digits of scikit-learn"
        )
        return write_digits(cache / DIGITS)


def from_folder(folder: str, subset: str = "", *, published: Sequence[Published] = PUBLISHED) -> Dataset:
    """Return the data set in a folder or file, named "mnist" if its bytes are the published ones.

    Else it is named like the folder, or the subset; what is called mnist but holds something else is named
    "mnist-unverified", so that no result passes for one on MNIST. Raises DataSourceError if the folder or a
    file is missing or unreadable.
    """
    if not folder:
        raise DataSourceError(
            "the data source is empty", "expected a folder, mnist, digits or auto; give one of them"
        )
    place = _place(folder)
    try:
        parts = formats.find(place, subset)
        if _are_published(parts, published):
            return _mnist(place)
    except idx.IdxError as error:
        raise DataSourceError(f"{error}, or use --data {MNIST} or --data {AUTO}") from error
    name = subset or _name(place, parts)
    return Dataset(f"{MNIST}-unverified" if name == MNIST else name, place)


def named(dataset: Dataset, spans: int = 0, subset: str = "") -> Dataset:
    """Return the data set under its name: that which it has, if it is of its folder, else one by its folder.

    spans: folders span-1, span-2, ... that are read; 0 if the folder holds the images itself. subset: as in
    formats.Choices. Raises DataSourceError.
    """
    if dataset.name and dataset.named.rstrip("/") in ("", dataset.folder.rstrip("/")):
        return dataset
    if spans:
        return dataset._replace(name=os.path.basename(dataset.folder.rstrip("/")))
    return dataset._replace(name=from_folder(dataset.folder, subset).name)


def is_published(folder: str, published: Sequence[Published] = PUBLISHED) -> bool:
    """Return whether the images and labels in a folder are the published ones, byte for byte.

    Raises idx.IdxError when the folder holds no data set or a file is unreadable.
    """
    return _are_published(formats.find(folder), published)


def download(
    folder: pathlib.Path, mirrors: Sequence[str], published: Sequence[Published], report: Report
) -> None:
    """Download the published files that a folder lacks, as {name}.gz; a file appears only whole and checked.

    The next attempt continues what a cut connection leaves behind ({name}.gz.part). Raises DataSourceError
    if no mirror sends a file, OSError if the folder cannot be written.
    """
    for expected in published:
        if not any(_holds(folder / f"{expected.name}{suffix}", expected) for suffix in ("", ".gz")):
            _fetch(folder / f"{expected.name}.gz", mirrors, expected, report)


def write_digits(folder: pathlib.Path) -> Dataset:
    """Write the digits of scikit-learn as four IDX files with reproducible bytes; correct files stay.

    Raises DataSourceError if they cannot be written.
    """
    splits = digits()
    try:
        if not _holds_digits(folder, splits):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}-") as temporary:
                fresh = pathlib.Path(temporary) / folder.name
                fresh.mkdir()
                for split, data in splits.items():
                    for path, array in zip(_digit_files(fresh, split), data, strict=True):
                        idx.write(path, array)
                if folder.exists():
                    shutil.rmtree(folder)
                os.rename(fresh, folder)
    except (OSError, idx.IdxError) as error:
        raise DataSourceError(
            f"{idx.shown(str(folder))}: the digits cannot be written ({idx.reason(error)})", WRITABLE
        ) from error
    return Dataset(DIGITS, os.path.abspath(folder))


def digits() -> dict[str, idx.Images]:
    """Return the enlarged digits of scikit-learn by split; every EVERY-th of a class is in the test split."""
    # Imported here because it takes more than a second and only this source needs it.
    from sklearn.datasets import load_digits

    bunch = load_digits()
    labels = bunch.target.astype(np.uint8)
    images = np.stack([enlarge(image) for image in bunch.images])
    held_out = every_nth_of_class(labels, EVERY)
    return {
        schemas.TRAIN_SPLIT: idx.Images(images[~held_out], labels[~held_out]),
        schemas.TEST_SPLIT: idx.Images(images[held_out], labels[held_out]),
    }


def enlarge(image: npt.NDArray[Any]) -> idx.Bytes:
    """Enlarge a digit [8, 8] to uint8 [SIDE, SIDE], 0 to 255, with BORDER empty pixels around it."""
    from PIL import Image

    side = schemas.SIDE - 2 * BORDER
    # Pillow resizes 8-bit images in integer arithmetic: the result is the same on every machine.
    small = Image.fromarray(_stretch(image, 0, image.max()))
    large = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC))
    sharp = _stretch(_stretch(large, 0, large.max()), DARK, BRIGHT)
    return np.pad(sharp, BORDER)


def every_nth_of_class(labels: npt.NDArray[Any], n: int) -> npt.NDArray[np.bool_]:
    """Return bool [N]: true at the first, (n+1)-th, (2n+1)-th ... occurrence of each label."""
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        chosen[np.flatnonzero(labels == label)[::n]] = True
    return chosen


class _MirrorError(Exception):
    """A mirror did not send a file; the message says why in a few words."""


def _place(folder: str) -> str:
    return folder.rstrip("/") if idx.is_remote(folder) else os.path.abspath(os.path.expanduser(folder))


def _mnist(folder: str) -> Dataset:
    return Dataset(MNIST, folder)


def _from_mnist_dir(folder: str, published: Sequence[Published]) -> Dataset:
    place = _place(folder)
    try:
        if is_published(place, published):
            return _mnist(place)
    except idx.IdxError as error:
        raise DataSourceError(f"{MNIST_DIR} is set: {error}, or unset {MNIST_DIR}") from error
    raise DataSourceError(
        f"{MNIST_DIR} is set: {idx.shown(place)} holds IDX files whose checksums are not MNIST's",
        f"expected MNIST as published; correct or unset {MNIST_DIR}, or use --data DIR for other images",
    )


def _from_cache(
    folder: pathlib.Path, mirrors: Sequence[str], published: Sequence[Published], report: Report
) -> Dataset:
    place = os.path.abspath(folder)
    if _is_mnist(place, published):
        return _mnist(place)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        download(folder, mirrors, published, report)
    except OSError as error:
        raise DataSourceError(
            f"{idx.shown(place)}: cannot be written ({idx.reason(error)})", WRITABLE
        ) from error
    if not _is_mnist(place, published):
        raise DataSourceError(
            f"{idx.shown(place)}: holds other IDX files beside MNIST's",
            "expected MNIST's alone; delete that folder to have it filled again",
        )
    return _mnist(place)


def _is_mnist(folder: str, published: Sequence[Published]) -> bool:
    try:
        return is_published(folder, published)
    except idx.IdxError:
        return False


def _name(place: str, parts: Mapping[str, formats.Part]) -> str:
    """Return what a data set is called after: its folder, and for torchvision's NAME/raw the name."""
    part = parts[schemas.TRAIN_SPLIT]
    if isinstance(part, formats.Arrays) and os.path.dirname(part.images.path) != place:
        place = os.path.dirname(part.images.path) if os.path.isdir(place) else place.removesuffix(".npz")
    return os.path.basename(place.removesuffix("/raw")) or "data"


def _are_published(parts: Mapping[str, formats.Part], published: Sequence[Published]) -> bool:
    """Return whether the parts hold what the published files hold, as IDX files or as arrays."""
    expected = iter(published)
    return all(
        isinstance(part, formats.Arrays) and _is_published(part, next(expected), next(expected))
        for part in parts.values()
    )


def _is_published(part: formats.Arrays, images: Published, labels: Published) -> bool:
    if not part.images.path.endswith((".npz", ".npy")):
        return _matches(part.images.path, images) and _matches(part.labels.path, labels)
    header = 4 + 4 * idx.KINDS["images"]
    count = formats.count(part)
    if header + count * schemas.PIXELS != images.size:
        return False
    digests = [hashlib.sha256(idx.header([count, *idx.ITEMS[kind]])) for kind in idx.KINDS]
    for block in formats.blocks(part, formats.Choices(), {}):
        for digest, array in zip(digests, block, strict=True):
            digest.update(array.tobytes())
    return [digest.hexdigest() for digest in digests] == [images.sha256, labels.sha256]


def _matches(path: str, expected: Published) -> bool:
    """Return whether a file has the published bytes; read no further than their length. Raises IdxError."""
    digest, size = hashlib.sha256(), 0
    for chunk in idx.chunks(path):
        digest.update(chunk)
        size += len(chunk)
        if size > expected.size:
            return False
    return digest.hexdigest() == expected.sha256


def _holds(path: pathlib.Path, expected: Published) -> bool:
    """Return whether a file exists and has the published bytes."""
    try:
        return path.is_file() and _matches(str(path), expected)
    except idx.IdxError:
        return False


def _fetch(target: pathlib.Path, mirrors: Sequence[str], expected: Published, report: Report) -> None:
    """Download one file from the first mirror that sends the published bytes."""
    part = target.with_name(f"{target.name}.part")
    failures = []
    for mirror in mirrors:
        try:
            if not _holds(part, expected):
                _fetch_from(f"{mirror.rstrip('/')}/{target.name}", part, expected, report)
        except _MirrorError as error:
            failures.append(f"{_host(mirror)}: {error}")
        else:
            os.replace(part, target)
            return
    raise DataSourceError(
        f"{target.name} cannot be downloaded ({'; '.join(failures)})",
        f"expected a mirror of MNIST to send it; check the network, {OTHER_WAYS}",
    )


def _fetch_from(url: str, part: pathlib.Path, expected: Published, report: Report) -> None:
    """Complete `part` to the published bytes, continuing after cut connections. Raises _MirrorError."""
    failure = _MirrorError("sent other bytes than the published ones")
    for _ in range(ATTEMPTS):
        start = _size(part)
        try:
            _transfer(url, part, expected, report)
        except _MirrorError as error:
            if _size(part) <= start:
                raise
            failure = error
            continue
        if _holds(part, expected):
            return
        # The beginning may have come from another mirror: only a file sent whole proves this one wrong.
        part.unlink()
        if not start:
            break
    raise failure


def _transfer(url: str, part: pathlib.Path, expected: Published, report: Report) -> None:
    """Make one request: append what `part` lacks, or rewrite it if the mirror only sends whole files."""
    start = _size(part)
    with _answer(url, start) as response:
        if start and response.status_code == requests.codes.requested_range_not_satisfiable:
            return  # nothing comes after what part holds
        if response.status_code not in (requests.codes.ok, requests.codes.partial_content):
            raise _MirrorError(f"HTTP status {response.status_code}")
        done, total = _extent(response)
        if done not in (0, start):
            raise _MirrorError(f"sent bytes from {done:,} on when asked from {start:,} on")
        host = _host(url)
        report(
            f"{part.stem}: {'continuing' if done else 'downloading'} from {host}, {_progress(done, total)}"
        )
        with open(part, "ab") as file:
            file.truncate(done)
            try:
                for chunk in response.iter_content(PART_BYTES):
                    file.write(chunk)
                    before, done = done, done + len(chunk)
                    if total and _quarters(done, total) > _quarters(before, total):
                        report(f"{part.stem}: {_progress(done, total)}")
                    if done > _longest(expected):
                        return  # no longer the published file, whatever follows
            except requests.RequestException as error:
                raise _MirrorError(f"connection lost after {_megabytes(done)}") from error


def _answer(url: str, start: int) -> requests.Response:
    """Return the response to a request for the bytes from `start` on, with its body still to be read.

    The request runs in a thread, since name look-up and trying all addresses share no time limit.
    """
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    answer: concurrent.futures.Future[requests.Response] = concurrent.futures.Future()

    def ask() -> None:
        try:
            timeouts = (CONNECT_SECONDS, SILENCE_SECONDS)
            answer.set_result(requests.get(url, headers=headers, stream=True, timeout=timeouts))
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answer.result(ANSWER_SECONDS)
    except concurrent.futures.TimeoutError:
        raise _MirrorError(f"no answer within {ANSWER_SECONDS:g} s") from None
    except requests.RequestException as error:
        raise _MirrorError(_why(error)) from error


def _why(error: requests.RequestException) -> str:
    known = (
        (requests.exceptions.ProxyError, "the proxy did not connect"),
        (requests.exceptions.SSLError, "the TLS connection failed"),
        (requests.exceptions.Timeout, f"no answer within {CONNECT_SECONDS:g} s"),
        (requests.exceptions.ConnectionError, "no connection"),
    )
    return next((words for kind, words in known if isinstance(error, kind)), type(error).__name__)


def _extent(response: requests.Response) -> tuple[int, int | None]:
    """Return where the body of a response begins in the file, and the length of the file if it is sent."""
    if response.status_code == requests.codes.ok:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if not found:
        raise _MirrorError("sent a part of the file without saying which")
    return int(found[1]), None if found[2] == "*" else int(found[2])


def _longest(expected: Published) -> int:
    """Return an upper bound on the size of a gzip file of the published bytes."""
    return expected.size + expected.size // 100 + 1024


def _size(path: pathlib.Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _quarters(done: int, total: int) -> int:
    return 4 * done // total


def _progress(done: int, total: int | None) -> str:
    return f"{_megabytes(done)} of {_megabytes(total) if total else 'unknown size'}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB"


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _stretch(image: npt.NDArray[Any], low: int, high: int) -> idx.Bytes:
    """Stretch grey values so that `low` and below become 0, `high` and above 255."""
    stretched = np.round((image.astype(float) - low) * 255 / max(high - low, 1))
    clipped: idx.Bytes = np.clip(stretched, 0, 255).astype(np.uint8)
    return clipped


def _digit_files(folder: pathlib.Path, split: str) -> idx.Pair:
    begin = str(folder / idx.PREFIXES[split])
    return idx.Pair(f"{begin}-images-idx3-ubyte", f"{begin}-labels-idx1-ubyte")


def _holds_digits(folder: pathlib.Path, splits: Mapping[str, idx.Images]) -> bool:
    """Return whether the folder holds these images and labels."""
    try:
        found = {split: idx.read_pair(*pair) for split, pair in idx.split_files(str(folder)).items()}
    except idx.IdxError:
        return False
    return all(
        np.array_equal(mine, theirs)
        for split, data in splits.items()
        for mine, theirs in zip(data, found[split], strict=True)
    )
