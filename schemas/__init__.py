"""What the data looks like: the names and shapes every other package uses, and the curated schema."""

import pathlib

SIDE = 28
"""Rows and columns of an image."""
PIXELS = SIDE * SIDE
"""Pixels of an image."""
CLASSES = 10
"""Values a label can take, 0 to CLASSES - 1."""

IMAGE = "image"
"""Raw feature: PIXELS bytes, one grey value 0 (background) to 255 each, rows from the top."""
LABEL = "label"
"""Raw and transformed feature: the class, int64."""
MEAN_INTENSITY = "ink"
"""Raw feature: mean grey level over 255, float: what statistics see of an image. Clients need not send it."""
PIXELS_FEATURE = "pixels"
"""Transformed feature: int64 [PIXELS], 0/1 when Transform binarized, else 0 to 255."""

TRAIN_SPLIT = "train"
TEST_SPLIT = "eval"

SCHEMA_FILE = pathlib.Path(__file__).parent / "schema.pbtxt"
"""What raw examples must satisfy."""

TRAINING_FRAMES = "frames.npz"
"""File in a Trainer's model_run artifact: images drawn along the way, arrays `frames` and `steps`."""

TRAINING_RECORD = "training.json"
"""File in a Trainer's model_run artifact: what was trained and how, one JSON object."""
