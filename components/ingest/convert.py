"""Convert a data set in any form that can be read (components.ingest.formats) into four IDX files."""

import pathlib
import shutil
import tempfile

from components.ingest import formats, idx
from components.ingest.formats import Choices, Report


class ConversionError(ValueError):
    """Data that cannot be converted; one line says where, what was found, expected and what to do."""


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
    try:
        return formats.read(str(place), choices, report)
    except idx.IdxError as error:
        raise ConversionError(str(error)) from error
