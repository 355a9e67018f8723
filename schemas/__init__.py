"""Names and shapes of the data, which every other package uses, and the curated schema."""

import pathlib
import re

SIDE = 28
"""Rows and columns of an image."""
PIXELS = SIDE * SIDE
"""Pixels of an image."""
IMAGE = "image"
"""Raw feature: PIXELS bytes, one grey value from 0 (background) to 255 each, rows from the top."""
LABEL = "label"
"""Raw and transformed feature: the class, int64."""
MEAN_INTENSITY = "mean_intensity"
"""Raw feature: the mean grey value of an image divided by 255, float; only statistics read it."""
MAX_INTENSITY = "max_intensity"
"""Raw feature: the largest grey value of an image divided by 255, float; only statistics read it."""
FORMER_NAMES = {"ink": MEAN_INTENSITY}
"""Feature names that artifacts of version 0.1 hold, and the names they are read under."""
PIXELS_FEATURE = "pixels"
"""Transformed feature: int64 [PIXELS], 0 or 1 if Transform binarized the image, else 0 to 255."""

TRAIN_SPLIT = "train"
TEST_SPLIT = "eval"

SCHEMA_FILE = pathlib.Path(__file__).parent / "schema.pbtxt"
"""The schema that raw examples must satisfy."""

_LABEL_DOMAIN = r'int_domain\s*\{\s*name:\s*"label"\s+min:\s*0\s+max:\s*(\d+)'
"""The domain of labels in the schema, which is the one place that declares the classes."""


def classes(schema: str) -> int:
    """Return how many classes the text of a schema declares. Raises ValueError if it declares none."""
    found = re.search(_LABEL_DOMAIN, schema)
    if found is None:
        raise ValueError(
            f'{SCHEMA_FILE}: no int_domain of the label found, expected `name: "label" min: 0 max: 9` in it'
        )
    return int(found[1]) + 1


CLASSES = classes(SCHEMA_FILE.read_text())
"""Values a label can take, 0 to CLASSES - 1, as the schema declares them."""

VALIDATIONS = SCHEMA_FILE.with_name("validations.pbtxt")
"""What the pixels of a split must look like; validations_PROTOCOL.pbtxt holds what a protocol adds."""

PIXEL_VALUES = "pixels"
"""The setting that says what the pixels of the files are: one of PIXEL_KINDS."""
GREY, BINARY = PIXEL_KINDS = ("grey", "binary")
"""Grey values from 0 to 255, or two values: 0 and 1, or 0 and 255."""

PAD, AREA = RESIZE = ("pad", "area")
"""How images of another size become SIDE x SIDE: background around smaller ones, or averages over areas."""

TRAINING_FRAMES = "frames.npz"
"""File in a Trainer's model_run artifact: images drawn during training, arrays `frames` and `steps`."""

TRAINING_RECORD = "training.json"
"""File in a Trainer's model_run artifact: the training record, one JSON object."""
