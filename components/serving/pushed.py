"""What a PushedModel artifact says of the push, by properties that TFX names nowhere public."""

from typing import Any

from tfx.components.pusher import executor

_PUSHED = executor._PUSHED_KEY
DESTINATION = executor._PUSHED_DESTINATION_KEY
"""Property that names the folder of the version."""
_VERSION = executor._PUSHED_VERSION_KEY


def version(artifact: Any) -> int | None:
    """Return the version that the model was pushed as; None if it was not pushed."""
    found = artifact.get_string_custom_property(_VERSION)
    return int(found) if found else None


def destination(artifact: Any) -> str:
    """Return the folder that the model was pushed to; empty if it was not pushed."""
    return str(artifact.get_string_custom_property(DESTINATION))


def mark(artifact: Any, folder: str, number: int) -> None:
    """Note on the artifact that its model was pushed to `folder` as version `number`."""
    artifact.set_int_custom_property(_PUSHED, 1)
    artifact.set_string_custom_property(DESTINATION, folder)
    artifact.set_string_custom_property(_VERSION, str(number))
