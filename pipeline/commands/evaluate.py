"""latentline evaluate: the likelihood of the test split under a pushed model."""

import argparse
from typing import Any

from pipeline import commands
from pipeline.config import exit_codes
from schemas import PIXEL_VALUES

EXAMPLES = """examples:
  latentline evaluate out/serving/cvae                                     the newest version, on its own data
  latentline evaluate out/serving/iwae/1795227466 --samples 500 --limit 200
  latentline evaluate out/serving/vqvae --data data/kmnist --classifier out/serving/mlp
"""
EXIT_CODES = {
    "0": "the estimate was printed",
    "1": "the data cannot be obtained or read",
    "2": "the request is wrong: no such model, a model without a likelihood, or data that is not its own",
    "130": "interrupted (Ctrl-C)",
}


def add(parsers: Any) -> None:
    """Add the command's arguments."""
    parser = commands.add(
        parsers,
        "evaluate",
        help="the likelihood of the test split under a pushed model, by importance sampling",
        description="Estimate the negative log-likelihood of the test images, in nats per image, with its\n"
        "standard error. More samples make the estimate tighter; time grows with images times samples.\n"
        "An estimate that was interrupted is resumed by the same command.",
        epilog=f"{EXAMPLES}\n{commands.table('exit codes', EXIT_CODES)}",
    )
    parser.add_argument("model", help="a SavedModel's folder, or a folder of versions (the newest is taken)")
    parser.add_argument(
        "--samples", type=int, default=5000, help="importance samples per image (default: 5000)"
    )
    parser.add_argument(
        "--data", help="as for run: a folder, mnist, digits or auto (default: the data of the model's card)"
    )
    commands.add_reading(parser, (PIXEL_VALUES, "subset", "resize", "scale"))
    parser.add_argument("--limit", type=int, help="images, evenly spread over the test split (default: all)")
    parser.add_argument(
        "--classifier",
        metavar="MODEL",
        help="a classifier of this pipeline, by whose features samples are compared with test images",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the samples (default: 0)")
    parser.add_argument(
        "--rows", type=int, default=500, help="images times samples at a time: bounds memory (default: 500)"
    )
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Estimate and print."""
    from components.ingest.formats import Reading
    from components.ingest.idx import IdxError
    from components.ingest.sources import DataSourceError
    from pipeline.evaluation.evaluate import evaluate
    from pipeline.evaluation.frechet import FrechetError
    from pipeline.evaluation.likelihood import LikelihoodError

    given = Reading(options.pixels, options.subset, options.resize, options.scale)
    if given != Reading() and options.data is None:
        return commands.fail(
            "--pixels, --subset, --resize and --scale describe --data, which is not given; leave them out, "
            "since the model's card says how its own data is read",
            exit_codes.BAD_REQUEST,
        )
    try:
        evaluate(
            options.model, data=options.data, samples=options.samples, limit=options.limit,
            seed=options.seed, rows=options.rows, classifier=options.classifier,
            reading=given if options.data else None,
        )  # fmt: skip
    except (LikelihoodError, FrechetError) as error:
        return commands.fail(error, exit_codes.BAD_REQUEST)
    except (DataSourceError, IdxError) as error:
        return commands.fail(error, exit_codes.FAILED)
    except KeyboardInterrupt:
        return commands.fail("interrupted; the same command goes on from here", exit_codes.INTERRUPTED)
    return exit_codes.OK
