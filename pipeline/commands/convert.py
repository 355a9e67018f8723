"""latentline import: convert a data set into the four IDX files that a run reads."""

import argparse
from typing import Any

from pipeline import commands
from pipeline.config import exit_codes

EXAMPLES = """examples:
  latentline import ~/.keras/datasets/mnist.npz data/mnist
  latentline import data/EMNIST data/letters --subset emnist-letters
  latentline import drawings data/drawings --resize area

SOURCE is a folder of IDX files of any type (torchvision's, QMNIST, EMNIST, whose images are turned), an .npz
archive or a folder of .npz or .npy arrays named by split and kind (x_train, test_labels), or a folder with
train/CLASS/*.png and test/CLASS/*.png. `latentline run --data SOURCE` reads the same forms without a copy.
"""
EXIT_CODES = {
    "0": "FOLDER holds the data set, for `latentline run --data FOLDER`",
    "1": "the data cannot be converted; FOLDER was not written",
    "2": "the request is wrong",
}


def add(parsers: Any) -> None:
    """Add the command's arguments."""
    parser = commands.add(
        parsers,
        "import",
        help="convert a data set into the IDX files that a run reads",
        description="Convert a data set into the four IDX files that a run reads.",
        epilog=f"{EXAMPLES}\n{commands.table('exit codes', EXIT_CODES)}",
    )
    parser.add_argument("source", metavar="SOURCE", help="file or folder of the data set")
    parser.add_argument("folder", metavar="FOLDER", help="new folder for the IDX files")
    commands.add_reading(parser, ("subset", "resize", "scale"))
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Convert, and print what was written."""
    from components.ingest import convert, formats
    from schemas import CLASSES

    choices = formats.Choices(options.subset, options.resize, options.scale)
    try:
        splits = convert.convert(options.source, options.folder, choices, print)
    except convert.ConversionError as error:
        return commands.fail(error, exit_codes.FAILED)
    for split, data in splits.items():
        print(f"{split}: {len(data.labels):,} images, labels {data.labels.min()} to {data.labels.max()}")
    highest = max(int(data.labels.max()) for data in splits.values())
    if highest >= CLASSES:
        print(f"! labels reach {highest}, but the schema declares 0 to {CLASSES - 1}; a run will refuse them")
    print(f"written to {options.folder}")
    return exit_codes.OK
