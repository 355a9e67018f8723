"""IDX, the file format of MNIST: read with bounded memory, written with deterministic bytes.

Layout (http://yann.lecun.com/exdb/mnist): two zero bytes, a type byte, the number of dimensions, each
dimension as a big-endian uint32, then the values, the last dimension fastest. Only unsigned bytes (type 0x08)
are handled. Files may be gzipped (told by content, not by name), local or behind a URL such as gs://.
"""

import contextlib
import fnmatch
import gzip
import io
import math
import os
import secrets
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
import numpy.typing as npt

import schemas

UNSIGNED_BYTE = 0x08
"""The type byte of an IDX file of unsigned bytes."""
LIMIT_BYTES = 4 * 2**30
"""No file may promise more than this many bytes of values, 4 GiB."""
CHUNK_BYTES = 2**20
"""Bytes read at a time."""
PREFIXES = {schemas.TRAIN_SPLIT: "train", schemas.TEST_SPLIT: "t10k"}
"""How the names of a split's files begin."""

_GZIP_MAGIC = b"\x1f\x8b"
_SUFFIX = "ubyte"
_NAMES_SHOWN = 12

Bytes = npt.NDArray[np.uint8]


class IdxError(ValueError):
    """A file or folder that cannot be used; its one line says where, what was found, expected and to do."""


class Images(NamedTuple):
    """Images with their labels."""

    images: Bytes  # [N, SIDE, SIDE], grey values 0 (background) to 255
    labels: Bytes  # [N]


class Pair(NamedTuple):
    """Where the two files of a split are."""

    images: str
    labels: str


def read_images(path: str) -> Bytes:
    """The images of an IDX file, uint8 [N, SIDE, SIDE]; N may be 0.

    Raises IdxError when the file cannot be read, is not an IDX file of unsigned bytes with 3 dimensions,
    holds images of another size, promises more than LIMIT_BYTES, or is shorter or longer than it promises.
    """
    return _read(path, rank=3, kind="images", item=(schemas.SIDE, schemas.SIDE))


def read_labels(path: str) -> Bytes:
    """The labels of an IDX file, uint8 [N], whatever their values; raises IdxError as read_images does."""
    return _read(path, rank=1, kind="labels", item=())


def read_pair(images_path: str, labels_path: str) -> Images:
    """Images and their labels.

    Raises IdxError as read_images does, when there are not as many labels as images and when there are none.
    """
    labels = read_labels(labels_path)
    images = read_images(images_path)
    if len(images) != len(labels):
        raise IdxError(
            f"{shown(images_path)}: holds {len(images):,} images but {shown(labels_path)} {len(labels):,} "
            "labels, expected as many; take both files from the same data set and split"
        )
    if not len(images):
        raise IdxError(f"{shown(images_path)}: holds no images, expected at least 1; give a file with images")
    return Images(images, labels)


def write(path: str, array: Bytes) -> None:
    """Writes uint8 [...] to a local IDX file, gzipped when the name ends in .gz.

    The file appears whole or not at all, and its bytes depend on the array alone (gzip stores neither name
    nor time). Raises IdxError for another type, for a scalar and when the file cannot be written.
    """
    if array.dtype != np.uint8 or array.ndim == 0:
        raise IdxError(
            f"{shown(path)}: cannot store {array.dtype} with {array.ndim} dimensions, "
            "expected uint8 with at least 1; convert the array first"
        )
    if is_remote(path):
        raise IdxError(f"{shown(path)}: IDX files are written locally; give a path without ://")
    header = struct.pack(f">HBB{array.ndim}I", 0, UNSIGNED_BYTE, array.ndim, *array.shape)
    body = header + array.tobytes()
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


def find_pair(folder: str, prefix: str) -> Pair:
    """The images and labels files of a folder whose names begin with prefix, rather plain than gzipped.

    Raises IdxError, listing what the folder holds, when one is missing or when several plain ones compete.
    """
    return _pair(folder, prefix, _file_names(folder))


def split_files(folder: str) -> dict[str, Pair]:
    """The files of every split, by split name; raises IdxError when one of the four files is missing."""
    names = _file_names(folder)
    if not names:
        raise IdxError(
            f"{shown(folder)}: holds no files, expected the four IDX files of a data set "
            "(such as train-images-idx3-ubyte.gz); put them there or give another folder"
        )
    return {split: _pair(folder, prefix, names) for split, prefix in PREFIXES.items()}


def chunks(path: str) -> Iterator[bytes]:
    """The uncompressed bytes of a file, up to CHUNK_BYTES at a time; raises IdxError if it cannot be read."""
    with _opened(path) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def is_remote(path: str) -> bool:
    """Whether a path is a URL such as gs://bucket/folder."""
    return "://" in path


def shown(path: str) -> str:
    """A path as a message shows it: on one line, whatever characters it has."""
    return path if path.isprintable() else repr(path)


def reason(error: Exception) -> str:
    """Why a read or write failed, short and on one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()).rstrip(".") or type(error).__name__


def _read(path: str, *, rank: int, kind: str, item: tuple[int, ...]) -> Bytes:
    """Reads [N, *item]; its memory grows with the bytes it has read, never with what the header says."""
    with _opened(path) as stream:
        count = _read_header(path, stream, rank=rank, kind=kind, item=item)
        promised = count * math.prod(item)
        if promised > LIMIT_BYTES:
            raise IdxError(
                f"{shown(path)}: its header promises {count:,} {kind} in {promised:,} bytes, "
                f"expected at most {LIMIT_BYTES:,}; the header is damaged, or split the file"
            )
        values = bytearray()
        while len(values) < promised:
            chunk = stream.read(min(CHUNK_BYTES, promised - len(values)))
            if not chunk:
                raise IdxError(
                    f"{shown(path)}: ends after {len(values):,} bytes of values, expected {promised:,} "
                    f"for the {count:,} {kind} of its header; fetch or copy the file again"
                )
            values += chunk
        # Reading past the last value also makes gzip check its CRC.
        if stream.read(1):
            raise IdxError(
                f"{shown(path)}: goes on after the {promised:,} bytes of values its header promises "
                f"({count:,} {kind}), expected the end; fetch or copy the file again"
            )
    return np.frombuffer(values, np.uint8).reshape(count, *item)


def _read_header(path: str, stream: BinaryIO, *, rank: int, kind: str, item: tuple[int, ...]) -> int:
    """How many items the header promises, once it is known to describe [N, *item] unsigned bytes."""
    magic = _read_exactly(path, stream, 4)
    zeros, type_byte, dimensions = struct.unpack(">HBB", magic)
    if zeros:
        raise IdxError(
            f"{shown(path)}: begins with 0x{magic.hex()}, expected 0x{_magic(rank)} for {kind}; "
            "it is not an IDX file, give one such as MNIST's"
        )
    if type_byte != UNSIGNED_BYTE:
        raise IdxError(
            f"{shown(path)}: holds values of type 0x{type_byte:02x}, expected 0x{UNSIGNED_BYTE:02x} "
            "(unsigned bytes); convert them"
        )
    if dimensions != rank:
        raise IdxError(
            f"{shown(path)}: has {dimensions} dimension(s), expected {rank} for {kind}; "
            "were the images and the labels swapped?"
        )
    count, *shape = struct.unpack(f">{rank}I", _read_exactly(path, stream, 4 * rank))
    if tuple(shape) != item:
        raise IdxError(
            f"{shown(path)}: holds images of {_by(shape)} pixels, expected {_by(item)}; resize them first"
        )
    return int(count)


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


def _by(shape: list[int] | tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


@contextlib.contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    """A stream of the uncompressed bytes; every failure to open or read it becomes an IdxError."""
    try:
        with io.BufferedReader(_Remote(path)) if is_remote(path) else open(path, "rb") as file:
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
    except OSError as error:
        raise IdxError(
            f"{shown(path)}: cannot be read ({reason(error)}), expected an IDX file; "
            "check the path and its permissions"
        ) from error


def _pair(folder: str, prefix: str, names: list[str]) -> Pair:
    return Pair(
        images=_one_file(folder, f"{prefix}*images*idx3*", names),
        labels=_one_file(folder, f"{prefix}*labels*idx1*", names),
    )


def _one_file(folder: str, pattern: str, names: list[str]) -> str:
    """The one file that matches; without a plain one, the gzipped one."""
    for suffix in (_SUFFIX, f"{_SUFFIX}.gz"):
        found = [name for name in names if fnmatch.fnmatchcase(name, pattern + suffix)]
        if len(found) == 1:
            return f"{folder.rstrip('/')}/{found[0]}"
        if found:
            raise IdxError(
                f"{shown(folder)}: {len(found)} files match {pattern}{suffix} ({_listed(found)}), "
                "expected 1; move the others away"
            )
    raise IdxError(
        f"{shown(folder)}: no file matches {pattern}{_SUFFIX} or {pattern}{_SUFFIX}.gz, expected 1; "
        f"found {_listed(names)}; add the file or give another folder"
    )


def _listed(names: list[str]) -> str:
    if not names:
        return "nothing"
    rest = len(names) - _NAMES_SHOWN
    return ", ".join(map(shown, names[:_NAMES_SHOWN])) + (f" and {rest:,} more" if rest > 0 else "")


def _file_names(folder: str) -> list[str]:
    """The files of a folder by name, without the folders in it."""
    try:
        if is_remote(folder):
            # Remote folders are listed with a slash at their end.
            return sorted(name for name in _remote_names(folder) if not name.endswith("/"))
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_file())
    except OSError as error:
        raise IdxError(
            f"{shown(folder)}: cannot be listed ({reason(error)}), expected a folder of IDX files; "
            "check the path and its permissions"
        ) from error


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
    """call(tf.io.gfile), failing with OSError; imports TensorFlow here because that takes seconds."""
    import tensorflow as tf

    try:
        return call(tf.io.gfile)
    except tf.errors.OpError as error:
        raise OSError(error.message) from error
