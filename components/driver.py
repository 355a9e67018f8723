"""What drivers of components have in common that look at something before TFX looks into its cache."""

from tfx.dsl.components.base import base_driver
from tfx.orchestration import metadata
from tfx.orchestration.portable import base_driver as portable_driver


class Driver(base_driver.BaseDriver, portable_driver.BaseDriver):
    """A driver whose `run` adds execution properties, which are part of the key of TFX's cache.

    TFX's compiler requires the first of the two bases, the launcher calls the second.
    """

    def __init__(self, metadata_handle: metadata.Metadata) -> None:
        base_driver.BaseDriver.__init__(self, metadata_handle)
        portable_driver.BaseDriver.__init__(self, metadata_handle)
