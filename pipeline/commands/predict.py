"""latentline predict: call a model on image files."""

import argparse
import sys
from typing import Any

from pipeline import commands
from pipeline.config import exit_codes

EXAMPLES = """examples:
  latentline predict out/serving/mlp seven.png                     the label and its probability
  latentline predict out/serving/mlp photo.jpg --resize area --invert
  latentline predict out/serving/cvae t10k-images-idx3-ubyte.gz --output answers.npz
  latentline predict out/serving/cvae digits.npy --json | jq .latents

A FILE is a PNG or JPEG image, an array of one or more images (.npy, .npz), or an IDX file of images. Images
have 28x28 grey values, light strokes on black as in MNIST; --resize, --scale and --invert convert others.
"""
EXIT_CODES = {
    "0": "every image was answered",
    "1": "a file cannot be read as images, or the answers cannot be written",
    "2": "the request is wrong: there is no such model",
}


def add(parsers: Any) -> None:
    """Add the command's arguments."""
    parser = commands.add(
        parsers,
        "predict",
        help="call a model on image files: labels, probabilities, latent vectors",
        description="Print what a model answers for each image: the label and its probability, the latent\n"
        "vector, or both, by the kind of the model.",
        epilog=f"{EXAMPLES}\n{commands.table('exit codes', EXIT_CODES)}",
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a SavedModel's folder, or a folder of versions (the newest is taken)",
    )
    parser.add_argument("files", metavar="FILE", nargs="+", help="images: PNG, JPEG, .npy, .npz or IDX")
    commands.add_reading(parser, ("resize", "scale"))
    parser.add_argument(
        "--invert", action="store_true", help="for dark strokes on a bright background: exchange them"
    )
    parser.add_argument("--json", action="store_true", help="a JSON object per image, one per line")
    parser.add_argument(
        "--output", metavar="FILE", help="an .npz archive for all outputs, reconstructions included"
    )
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Call the model, print its answers and return the exit code."""
    from components.ingest.formats import Choices
    from components.ingest.idx import IdxError
    from pipeline.evaluation import predict

    choices = Choices(resize=options.resize, scale=options.scale)
    try:
        answers = predict.predict(
            options.model, options.files, choices=choices, invert=options.invert, report=_report
        )
    except predict.PredictionError as error:
        return commands.fail(error, exit_codes.BAD_REQUEST)
    except IdxError as error:
        return commands.fail(error, exit_codes.FAILED)
    print(predict.json_lines(answers) if options.json else predict.text(answers))
    if options.output:
        try:
            predict.save(answers, options.output)
        except predict.PredictionError as error:
            return commands.fail(error, exit_codes.FAILED)
    return exit_codes.OK


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
