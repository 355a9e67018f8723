"""Files that appear whole or not at all."""

import json
import os
import pathlib
import uuid
from typing import Any


def write_json(path: pathlib.Path, value: Any, secret: bool = False) -> None:
    """Write `value` as JSON to `path`: a reader sees the old content or the new. Raises OSError.

    secret: let only the owner read the file.
    """
    staging = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        mode = 0o600 if secret else 0o666
        with open(staging, "w", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            json.dump(value, file, indent=1)
            file.flush()
            os.fsync(file.fileno())  # else a power cut can leave the new name with nothing in it
        os.replace(staging, path)
    finally:
        staging.unlink(missing_ok=True)
