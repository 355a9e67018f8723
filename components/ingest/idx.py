"""Read IDX, the file format of MNIST, with bounded memory, and write it with reproducible bytes.

Layout (http://yann.lecun.com/exdb/mnist): two zero bytes, a type byte, the number of dimensions, each
dimension as a big-endian uint32, then the values, the last dimension fastest. Only unsigned bytes (type 0x08)
are handled. Files may be gzipped (recognised by content, not by name), local or behind a URL such as gs://.
"""

import contextlib
import gzip
import hashlib
import io
import math
import os
import re
import secrets
import struct
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
import numpy.typing as npt

import schemas

UNSIGNED_BYTE = 0x08
"""The type byte of an IDX file of unsigned bytes."""
LIMIT_BYTES = 4 * 2**30
"""Most bytes of values that are read into memory at once, 4 GiB."""
CHUNK_BYTES = 2**20
"""Bytes read at a time."""
BUFFER_BYTES = 2**16
"""Bytes read at a time from a file whose reader asks for fewer."""
PREFIXES = {schemas.TRAIN_SPLIT: "train", schemas.TEST_SPLIT: "t10k"}
"""How the names of a split's files begin."""
KINDS = {"images": 3, "labels": 1}
"""What the two files of a split hold, and the number of their dimensions."""
ITEMS = {"images": (schemas.SIDE, schemas.SIDE), "labels": ()}
"""The shape of one item of each kind."""
SCHEMES = ("gs", "hdfs", "file")
"""URL schemes that can be read."""

_GZIP_MAGIC = b"\x1f\x8b"
_NAMES_SHOWN = 12
_DATA = re.compile(
    r"(train|test|t10k|qmnist|emnist).*(images|labels).*|.*(idx\d|-ubyte|_ubyte).*|.*\.(gz|npz|npy|png|zip|tar|tfrecord)",
    re.DOTALL | re.IGNORECASE,
)

Bytes = npt.NDArray[np.uint8]


class IdxError(ValueError):
    """A file or folder that cannot be used; one line says where, what was found, expected and what to do."""


class Images(NamedTuple):
    """Images with their labels."""

    images: Bytes  # [N, SIDE, SIDE], grey values 0 (background) to 255
    labels: Bytes  # [N]


class Pair(NamedTuple):
    """The paths of the two files of a split."""

    images: str
    labels: str


def read_images(path: str, digest: Any = None) -> Bytes:
    """Read the images of an IDX file, uint8 [N, SIDE, SIDE]; N may be 0.

    Raises IdxError if the file cannot be read, is not an IDX file of unsigned bytes with 3 dimensions,
    holds images of another size, promises more than LIMIT_BYTES, or is shorter or longer than it promises.
    digest: a hash object of hashlib that is updated with the stored bytes, all of them.
    """
    return _read(path, kind="images", digest=digest)


def read_labels(path: str, digest: Any = None) -> Bytes:
    """Read the labels of an IDX file, uint8 [N], of any value; raise IdxError as read_images does."""
    return _read(path, kind="labels", digest=digest)


def read_pair(images_path: str, labels_path: str, digests: dict[str, str] | None = None) -> Images:
    """Read images and their labels.

    Raises IdxError as read_images does, if the numbers of images and labels differ and if both are 0.
    digests: receives the SHA-256 of the stored bytes of both files by path, as stored_digest returns it.
    """
    hashes = {path: hashlib.sha256() for path in (images_path, labels_path)}
    labels = read_labels(labels_path, hashes[labels_path])
    images = read_images(images_path, hashes[images_path])
    if digests is not None:
        digests.update({path: found.hexdigest() for path, found in hashes.items()})
    if len(images) != len(labels):
        raise IdxError(
            f"{shown(images_path)}: holds {len(images):,} images but {shown(labels_path)} {len(labels):,} "
            "labels, expected as many; take both files from the same data set and split"
        )
    if not len(images):
        raise IdxError(f"{shown(images_path)}: holds no images, expected at least 1; give a file with images")
    return Images(images, labels)


def write(path: str, array: Bytes) -> None:
    """Write uint8 [...] to a local IDX file, gzipped if the name ends in .gz.

    The file appears whole or not at all, and its bytes depend on the array alone (gzip stores neither name
    nor time). Raises IdxError for another type, for a scalar and if the file cannot be written.
    """
    if array.dtype != np.uint8 or array.ndim == 0:
        raise IdxError(
            f"{shown(path)}: cannot store {array.dtype} with {array.ndim} dimensions, "
            "expected uint8 with at least 1; convert the array first"
        )
    if is_remote(path):
        raise IdxError(f"{shown(path)}: IDX files are written locally; give a path without ://")
    body = header(array.shape) + array.tobytes()
    content = gzip.compress(body, mtime=0) if path.endswith(".gz") else body
    temporary = f"{path}.{secrets.token_hex(4)}.tmp"
    try:
        try:
            with open(temporary, "xb") as file:
                file.write(content)
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.remove(temporary)
    except OSError as error:
        raise IdxError(
            f"{shown(path)}: cannot be written ({reason(error)}), expected a writable folder; "
            "create it or change its permissions"
        ) from error


def header(shape: Sequence[int]) -> bytes:
    """Return how an IDX file of unsigned bytes of that shape begins."""
    return struct.pack(f">HBB{len(shape)}I", 0, UNSIGNED_BYTE, len(shape), *shape)


def find_pair(folder: str, prefix: str) -> Pair:
    """Return the images and labels files of a folder whose names begin with `prefix`.

    A plain file is preferred to a gzipped one of the same content. Raises IdxError, listing what the folder
    holds, if a file is missing, if several compete, and if a plain and a gzipped file differ in content.
    """
    return _pair(folder, prefix, file_names(folder))


def fits_any(names: Collection[str]) -> bool:
    """Return whether any of `names` is that of one of MNIST's four files, plain or gzipped."""
    return any(_fits(name, prefix, kind) for name in names for prefix in PREFIXES.values() for kind in KINDS)


def is_complete(names: Collection[str]) -> bool:
    """Return whether each of MNIST's four files is among `names`, plain or gzipped."""
    return all(
        any(_fits(name, prefix, kind) for name in names) for prefix in PREFIXES.values() for kind in KINDS
    )


def twins(folder: str, names: Collection[str], split: str) -> list[str]:
    """Return the paths of the gzipped files of a split that have a plain one beside them."""
    found = []
    for kind in KINDS:
        fitting = [name for name in names if _fits(name, PREFIXES[split], kind)]
        found += [
            f"{folder.rstrip('/')}/{name}" for name in fitting if len(fitting) > 1 and name.endswith(".gz")
        ]
    return found


def split_files(folder: str) -> dict[str, Pair]:
    """Return the files of every split by its name; raise IdxError as find_pair does."""
    names = file_names(folder)
    if not fits_any(names):
        found = f"no IDX files, only {_listed(names)}" if names else "no files"
        raise IdxError(
            f"{shown(folder)}: holds {found}, expected the four IDX files of a data set "
            f"(such as train-images-idx3-ubyte.gz); {_elsewhere(folder, names)}"
        )
    return {split: _pair(folder, prefix, names) for split, prefix in PREFIXES.items()}


def chunks(path: str) -> Iterator[bytes]:
    """Yield the uncompressed bytes of a file, up to CHUNK_BYTES at a time; raise IdxError if that fails."""
    with opened(path) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def stored_digest(path: str) -> str:
    """Return the SHA-256 of the bytes of a file as they are stored, compressed or not; raise IdxError."""
    with stored(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def not_taken(names: Collection[str], taken: Collection[str]) -> list[str]:
    """Return those of `names` that look like data but are not among `taken`; hidden files do not count."""
    return sorted(
        name for name in names if name not in taken and not name.startswith(".") and _DATA.fullmatch(name)
    )


def is_remote(path: str) -> bool:
    """Return whether a path is a URL such as gs://bucket/folder."""
    return "://" in path


def shown(path: str) -> str:
    """Return a path as a message shows it: on one line, whatever characters it has."""
    return path if path.isprintable() else repr(path)


def reason(error: Exception) -> str:
    """Return why a read or write failed, short and on one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()).rstrip(".") or type(error).__name__


def _read(path: str, *, kind: str, digest: Any) -> Bytes:
    """Read all items; memory grows with the bytes that were read, never with what the header promises."""
    with items(path, kind, digest) as reader:
        promised = reader.count * math.prod(ITEMS[kind])
        if promised > LIMIT_BYTES:
            raise IdxError(
                f"{shown(path)}: its header promises {reader.count:,} {kind} in {promised:,} bytes, "
                f"expected at most {LIMIT_BYTES:,}; the header is damaged, or split the file"
            )
        return reader.read(reader.count)


class Items:
    """The images or labels of an open IDX file of unsigned bytes, read in their order."""

    def __init__(self, path: str, stream: BinaryIO, kind: str) -> None:
        self.count = _read_header(path, stream, kind=kind, item=ITEMS[kind])
        """The number of items that the header promises."""
        self._path, self._stream, self._kind = path, stream, kind
        self._size = math.prod(ITEMS[kind])
        self._done = 0

    def read(self, count: int) -> Bytes:
        """Return the next `count` items, [count, *ITEMS[kind]]; the last call also checks the file's end.

        Raises IdxError if the file is shorter or longer than its header promises.
        """
        promised = self.count * self._size
        values = bytearray()
        while len(values) < count * self._size:
            chunk = self._stream.read(min(CHUNK_BYTES, count * self._size - len(values)))
            if not chunk:
                found = self._done * self._size + len(values)
                raise IdxError(
                    f"{shown(self._path)}: ends after {found:,} bytes of values, expected {promised:,} "
                    f"for the {self.count:,} {self._kind} of its header; fetch or copy the file again"
                )
            values += chunk
        self._done += count
        # Reading past the last value makes gzip check its CRC, and the digest cover the file to its end.
        if self._done == self.count and self._stream.read(1):
            raise IdxError(
                f"{shown(self._path)}: goes on after the {promised:,} bytes of values its header promises "
                f"({self.count:,} {self._kind}), expected the end; fetch or copy the file again"
            )
        return np.frombuffer(values, np.uint8).reshape(count, *ITEMS[self._kind])


@contextlib.contextmanager
def items(path: str, kind: str, digest: Any = None) -> Iterator[Items]:
    """Open an IDX file of unsigned bytes, of any length, as MNIST's images or labels.

    Raises IdxError if it cannot be read or holds something else. digest: as for read_images.
    """
    with opened(path, digest) as stream:
        yield Items(path, stream, kind)


def _read_header(path: str, stream: BinaryIO, *, kind: str, item: tuple[int, ...]) -> int:
    """Return how many items the header promises, if it describes [N, *item] unsigned bytes."""
    rank = KINDS[kind]
    magic = _read_exactly(path, stream, 4)
    zeros, type_byte, dimensions = struct.unpack(">HBB", magic)
    if zeros:
        raise IdxError(
            f"{shown(path)}: begins with 0x{magic.hex()}, expected 0x{_magic(rank)} for {kind}; "
            "it is not an IDX file, give one such as MNIST's"
        )
    if type_byte != UNSIGNED_BYTE:
        raise IdxError(
            f"{shown(path)}: holds values of type 0x{type_byte:02x}{_TYPES.get(type_byte, '')}, expected "
            f"0x{UNSIGNED_BYTE:02x} (unsigned bytes); convert them first"
        )
    sizes = _read_exactly(path, stream, 4 * dimensions)
    shape = struct.unpack(f">{dimensions}I", sizes)
    if dimensions != rank:
        raise IdxError(
            f"{shown(path)}: has {dimensions} dimension(s) ({_by(shape)}), expected {rank} for {kind}; "
            f"{_other_rank(dimensions, kind)}"
        )
    if shape[1:] != item:
        if struct.unpack(f"<{rank}I", sizes)[1:] == item:
            raise IdxError(
                f"{shown(path)}: its dimensions are little-endian, expected big-endian; "
                "write the header with numpy's type '>u4'"
            )
        raise IdxError(
            f"{shown(path)}: holds images of {_by(shape[1:])} pixels, expected {_by(item)}; "
            "give --resize pad or area"
        )
    return int(shape[0])


_TYPES = {
    0x09: " (signed bytes)",
    0x0B: " (16-bit integers)",
    0x0C: " (32-bit integers)",
    0x0D: " (32-bit floats)",
    0x0E: " (64-bit floats)",
}


def _other_rank(dimensions: int, kind: str) -> str:
    """Return what to do about a file of another number of dimensions."""
    if dimensions in KINDS.values():
        return "were the images and the labels swapped?"
    if kind == "labels":
        return "keep one number per image"
    return f"reshape them to Nx{schemas.SIDE}x{schemas.SIDE}"


def _read_exactly(path: str, stream: BinaryIO, size: int) -> bytes:
    found = stream.read(size)
    if len(found) < size:
        raise IdxError(
            f"{shown(path)}: ends inside its header, expected {size - len(found)} more byte(s); "
            "it is empty or cut, fetch or copy the file again"
        )
    return found


def _magic(rank: int) -> str:
    return struct.pack(">HBB", 0, UNSIGNED_BYTE, rank).hex()


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


@contextlib.contextmanager
def opened(path: str, digest: Any = None) -> Iterator[BinaryIO]:
    """Open a stream of a file's uncompressed bytes; every failure to open or read it becomes an IdxError."""
    try:
        with stored(path, digest) as file:
            if file.peek(2)[:2] == _GZIP_MAGIC:
                with gzip.GzipFile(fileobj=file) as unzipped:
                    yield cast(BinaryIO, unzipped)
            else:
                yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise IdxError(
            f"{shown(path)}: its gzip data is cut or damaged ({reason(error)}), expected a whole gzip file; "
            "fetch or copy the file again"
        ) from error


@contextlib.contextmanager
def stored(path: str, digest: Any = None) -> Iterator[io.BufferedReader]:
    """Open the bytes of a file as they are stored; `digest` is updated with what is read of them."""
    check_scheme(path)
    try:
        raw: io.RawIOBase = _Remote(path) if is_remote(path) else io.FileIO(path)
        with io.BufferedReader(raw if digest is None else _Hashed(raw, digest), BUFFER_BYTES) as file:
            yield file
    except gzip.BadGzipFile:
        raise
    except OSError as error:
        raise IdxError(
            f"{shown(path)}: cannot be read ({reason(error)}), expected an IDX file; "
            "check the path and its permissions"
        ) from error


def check_scheme(path: str) -> None:
    """Raise IdxError for a URL whose scheme cannot be read."""
    scheme = path.partition("://")[0]
    if is_remote(path) and scheme not in SCHEMES:
        raise IdxError(
            f"{shown(path)}: {shown(scheme)}:// cannot be read, expected a local folder or a URL with "
            f"{', '.join(f'{name}://' for name in SCHEMES)}; download the files and give their folder"
        )


def _pair(folder: str, prefix: str, names: list[str]) -> Pair:
    return Pair(*(_one_file(folder, prefix, kind, names) for kind in KINDS))


def _fits(name: str, prefix: str, kind: str) -> bool:
    """Return whether a name is one of a file of that prefix and kind, plain or gzipped."""
    words = rf"{prefix}.*{kind}.*idx{KINDS[kind]}.*ubyte(\.gz)?"
    return re.fullmatch(words, name, re.DOTALL) is not None


def _one_file(folder: str, prefix: str, kind: str, names: list[str]) -> str:
    """Return the one file of that prefix and kind; a plain one, if a gzipped one has the same content."""
    words = f"{prefix}*{kind}*idx{KINDS[kind]}*ubyte"
    matching = [name for name in names if _fits(name, prefix, kind)]
    plain = [name for name in matching if not name.endswith(".gz")]
    zipped = [name for name in matching if name.endswith(".gz")]
    for found, suffix in ((plain, ""), (zipped, ".gz")):
        if len(found) > 1:
            raise IdxError(
                f"{shown(folder)}: {len(found)} files match {words}{suffix} ({_listed(found)}), "
                "expected 1; move the others away"
            )
    paths = [f"{folder.rstrip('/')}/{name}" for name in (*plain, *zipped)]
    if not paths:
        raise IdxError(
            f"{shown(folder)}: no file matches {words} or {words}.gz, expected 1; "
            f"found {_listed(names)}; add the file or give another folder"
        )
    if len(paths) == 2 and not same_content(*paths):
        raise IdxError(
            f"{shown(folder)}: {shown(plain[0])} and {shown(zipped[0])} differ in content, expected one file "
            "or the same content twice; remove the one that is out of date"
        )
    return paths[0]


def same_content(plain: str, zipped: str) -> bool:
    """Return whether two files have the same uncompressed bytes."""
    with opened(plain) as first, opened(zipped) as second:
        while True:
            chunk = first.read(CHUNK_BYTES)
            if chunk != second.read(max(len(chunk), 1)):
                return False
            if not chunk:
                return True


def _elsewhere(folder: str, names: list[str]) -> str:
    """Return what to do about a folder without IDX files, by what it and the folders in it hold."""
    if not is_remote(folder):
        for place in sorted(_folders_below(folder, depth=2)):
            if any(_fits(name, "train", "images") for name in file_names(place)):
                return f"they are in {shown(place)}: give that folder"
    if not_taken(names, ()):
        return (
            "name the files by split and kind, such as x_train.npy (`latentline import --help` lists what is "
            "read), or give another folder"
        )
    return "put them there or give another folder"


def _folders_below(folder: str, depth: int) -> Iterator[str]:
    if depth:
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    yield entry.path
                    yield from _folders_below(entry.path, depth - 1)


def _listed(names: list[str]) -> str:
    if not names:
        return "nothing"
    rest = len(names) - _NAMES_SHOWN
    return ", ".join(map(shown, names[:_NAMES_SHOWN])) + (f" and {rest:,} more" if rest > 0 else "")


def file_names(folder: str) -> list[str]:
    """Return the names of the files of a folder, without the folders in it; raise IdxError."""
    check_scheme(folder)
    try:
        if is_remote(folder):
            # Remote folders are listed with a slash at their end.
            return sorted(name for name in _remote_names(folder) if not name.endswith("/"))
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_file())
    except OSError as error:
        raise IdxError(
            f"{shown(folder)}: cannot be listed ({reason(error)}), expected a folder of files; "
            "check the path and its permissions"
        ) from error


class _Hashed(io.RawIOBase):
    """A raw stream that updates a hash object with what is read of it."""

    def __init__(self, raw: io.RawIOBase, digest: Any) -> None:
        self._raw, self._digest = raw, digest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = self._raw.readinto(buffer) or 0
        self._digest.update(memoryview(buffer)[:size])
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Remote(io.RawIOBase):
    """A file behind a URL as a raw stream that fails with OSError."""

    def __init__(self, path: str) -> None:
        self._file: Any = None  # close() runs even when the next line fails
        self._file = _through_gfile(lambda gfile: gfile.GFile(path, "rb"))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found: bytes = _through_gfile(lambda _: self._file.read(len(buffer)))
        buffer[: len(found)] = found
        return len(found)

    def close(self) -> None:
        if not self.closed and self._file is not None:
            self._file.close()
        super().close()


def _remote_names(folder: str) -> list[str]:
    names: list[str] = _through_gfile(lambda gfile: gfile.listdir(folder))
    return names


def _through_gfile(call: Callable[[Any], Any]) -> Any:
    """Return call(tf.io.gfile) or raise OSError; TensorFlow is imported here because that takes seconds."""
    import tensorflow as tf

    try:
        return call(tf.io.gfile)
    except tf.errors.OpError as error:
        raise OSError(error.message) from error
