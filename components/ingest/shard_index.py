"""The shards of spans that an earlier night ingested, so that a window of many spans costs its new span.

Beside its splits, the output of a window has an index of its shards: per span and split a key of everything
that decides their content, and their SHA-256. A later execution looks for its keys in the outputs beside its
own, and links or copies the shards that it finds there. Nothing else is remembered: what was removed or
damaged is ingested again.
"""

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from concurrent import futures
from typing import Any, NamedTuple

import tensorflow as tf

from components.ingest import formats, idx

INDEX = "shards.json"
"""File in the folder of the examples."""
LOOKED_AT = 5
"""Newest outputs in which shards are looked for; a window has all but its new span from the last one."""

log = logging.getLogger(__name__)


class Shard(NamedTuple):
    """A file of records: its path, in an index relative to the index, and the SHA-256 of its bytes."""

    path: str
    sha256: str


def key(**facts: Any) -> str:
    """Return a key of what decides the content of shards: equal facts, equal shards."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def identity(part: formats.Part, digests: Mapping[str, str]) -> list[Any]:
    """Return what the files of a part are: their SHA-256, and what else decides the images and labels.

    Where the files lie is no part of it. digests: SHA-256 by path.
    """
    if isinstance(part, formats.Pictures):
        return [(label, digests[path]) for path, label in part.files]
    return [
        (os.path.basename(values.path), values.member, values.turned, digests[values.path])
        for values in (part.images, part.labels)
    ]


def earlier(folder: str) -> dict[str, list[Shard]]:
    """Return the shards that the outputs beside the output `folder` hold, by key; those of newer ones win."""
    parent, own = os.path.split(folder.rstrip("/"))
    names = [name.rstrip("/") for name in tf.io.gfile.listdir(parent)]
    numbers = sorted((int(name) for name in names if name.isdecimal() and name != own), reverse=True)
    found: dict[str, list[Shard]] = {}
    for number in numbers[:LOOKED_AT]:
        place = os.path.join(parent, str(number))
        for each, shards in _index(place).items():
            found.setdefault(each, [Shard(os.path.join(place, path), digest) for path, digest in shards])
    return found


def write(folder: str, found: Mapping[str, Sequence[str]]) -> None:
    """Write the index of an output. found: paths of shards, in that folder, by key."""
    content = {
        each: [(os.path.relpath(path, folder), idx.stored_digest(path)) for path in paths]
        for each, paths in found.items()
    }
    unfinished = os.path.join(folder, f".{INDEX}")
    with tf.io.gfile.GFile(unfinished, "w") as file:
        file.write(json.dumps(content, indent=1))
    tf.io.gfile.rename(unfinished, os.path.join(folder, INDEX), overwrite=True)


def take(shards: Sequence[Shard], targets: Sequence[str]) -> bool:
    """Link or copy shards to target paths; False, and no target is left, unless all have their SHA-256."""
    with futures.ThreadPoolExecutor() as pool:
        whole = list(pool.map(_take, shards, targets))
    if all(whole):
        return True
    for shard, good in zip(shards, whole, strict=True):
        if not good:
            log.warning("%s is damaged or gone; its span is ingested again", shard.path)
    for target in targets:
        if tf.io.gfile.exists(target):
            tf.io.gfile.remove(target)
    return False


def _take(shard: Shard, target: str) -> bool:
    """Link or copy a shard; return whether its bytes are those of the index."""
    try:
        if idx.is_remote(target):
            tf.io.gfile.copy(shard.path, target)
        else:
            _link(shard.path, target)
        return idx.stored_digest(target) == shard.sha256
    except (OSError, tf.errors.OpError, idx.IdxError):  # the output is being removed, or its disk fails
        return False


def _link(path: str, target: str) -> None:
    """Give a file a second name, or copy it where the file system does not offer that. Raises OSError."""
    try:
        os.link(path, target)
    except OSError:
        tf.io.gfile.copy(path, target)


def _index(folder: str) -> dict[str, list[Shard]]:
    """Return the index of an output, empty if it has none that can be read."""
    try:
        with tf.io.gfile.GFile(os.path.join(folder, INDEX)) as file:
            content = json.loads(file.read())
        return {each: [Shard(*shard) for shard in shards] for each, shards in content.items()}
    except (tf.errors.OpError, ValueError, TypeError, AttributeError):
        return {}
