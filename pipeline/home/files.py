"""Files that appear whole or not at all."""

import json
import os
import pathlib
import uuid
from typing import Any


def write_json(path: pathlib.Path, value: Any) -> None:
    """Write `value` as JSON to `path`: a reader sees the old content or the new. Raises OSError."""
    staging = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        with open(staging, "w") as file:
            json.dump(value, file, indent=1)
            file.flush()
            os.fsync(file.fileno())  # else a power cut can leave the new name with nothing in it
        os.replace(staging, path)
    finally:
        staging.unlink(missing_ok=True)
