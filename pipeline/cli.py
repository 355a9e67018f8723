"""The latentline command."""

import argparse
import dataclasses
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from pipeline.errors import HomeInUse, HomeNotWritable, RunFailed, SettingsError
from trainer import variants
from trainer.recipe import PROFILES, PROTOCOLS

EXAMPLES = """examples:
  latentline list
  latentline run --variants cvae,mlp
  latentline run --variants cvae --profile full --data ~/fashion-mnist --home out/fashion
  latentline run --settings nightly.yaml
  latentline evaluate out/serving/cvae --samples 5000 --limit 1000
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; exits 0 when all went well, 1 when the run failed, 2 when the request was wrong."""
    warnings.simplefilter("ignore", FutureWarning)  # libraries on Python versions; nothing a user can act on
    sys.exit(_dispatch(_parser().parse_args(arguments)))


def _dispatch(options: argparse.Namespace) -> int:
    if options.command == "list":
        return _list(options.markdown)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is first imported
    return _evaluate(options) if options.command == "evaluate" else _run(options)


def _list(markdown: bool) -> int:
    width = max(map(len, variants.names()))
    if markdown:
        print("| variant | what it is |\n|---|---|")
    for name in variants.names():
        line = (
            f"| `{name}` | {variants.summary(name)} |"
            if markdown
            else f"{name:<{width}}  {variants.summary(name)}"
        )
        print(line)
    return 0


def _run(options: argparse.Namespace) -> int:
    from components.sources import DataSourceError
    from pipeline.run import run
    from pipeline.settings import Settings

    given = {key: value for key, value in vars(options).items() if key in _FIELDS and value is not None}
    try:
        settings = Settings.from_file(options.settings) if options.settings else Settings(**given)
        if options.settings and given:
            settings = dataclasses.replace(settings, **given)
        run(settings, verbose=options.verbose)
    except SettingsError as error:
        return _fail(error, 2)
    except (DataSourceError, HomeInUse, HomeNotWritable, RunFailed) as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return _fail(
            KeyboardInterrupt("interrupted; what is done is kept, and the same command goes on"), 130
        )
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from components.frechet import FrechetError
    from components.idx import IdxError
    from components.likelihood import LikelihoodError
    from components.sources import DataSourceError
    from pipeline.evaluate import evaluate

    try:
        evaluate(
            options.model, data=options.data, samples=options.samples, limit=options.limit,
            seed=options.seed, rows=options.rows, classifier=options.classifier,
        )  # fmt: skip
    except (LikelihoodError, FrechetError) as error:
        return _fail(error, 2)
    except (DataSourceError, IdxError) as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return _fail(KeyboardInterrupt("interrupted; nothing was estimated"), 130)
    return 0


def _fail(error: BaseException, code: int) -> int:
    print(f"latentline: error: {error}", file=sys.stderr)
    return code


_FIELDS = ("variants", "profile", "data", "protocol", "home", "seed")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="latentline",
        description="Train, evaluate, compare and push latent-variable models in one TFX pipeline.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="the variants there are, with a line each")
    listing.add_argument("--markdown", action="store_true", help="as the table of the README")
    _add_run(commands)
    _add_evaluate(commands)
    return parser


def _add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="the likelihood of the test split under a pushed model, by importance sampling",
        description="Estimate the negative log-likelihood of the test images, in nats per image, with its "
        "standard error. More samples make the estimate tighter; time grows with images times samples.",
    )
    evaluate.add_argument(
        "model", help="a SavedModel's folder, or a folder of versions (the newest is taken)"
    )
    evaluate.add_argument(
        "--samples", type=int, default=5000, help="importance samples an image (default: 5000)"
    )
    evaluate.add_argument(
        "--data", default="auto", help="as for run: a folder, mnist or auto (default: auto)"
    )
    evaluate.add_argument(
        "--limit", type=int, help="images, evenly spread over the test split (default: all)"
    )
    evaluate.add_argument(
        "--classifier",
        metavar="MODEL",
        help="a classifier of this pipeline, by whose features samples are compared with test images",
    )
    evaluate.add_argument("--seed", type=int, default=0, help="of the samples (default: 0)")
    evaluate.add_argument(
        "--rows", type=int, default=500, help="images times samples at a time: bounds memory (default: 500)"
    )


def _add_run(commands: Any) -> None:
    run = commands.add_parser(
        "run",
        help="run the pipeline on this machine",
        description="Prepare the data once, then train, evaluate, compare and push each variant. What has "
        "not changed since the last run in the same home is taken from its cache.",
        epilog=_choices("profiles", PROFILES) + _choices("protocols", PROTOCOLS),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("--variants", type=_names, help="names, separated by commas (default: all; see `list`)")
    run.add_argument("--profile", help="training budget (default: quick)")
    run.add_argument(
        "--data",
        help="a folder of four IDX files; `mnist` (MNIST_DIR, the cache, or a download); or `auto`: mnist, "
        "and the embedded digits of scikit-learn where it cannot be had (default: auto)",
    )
    run.add_argument("--protocol", help="binarization (default: threshold)")
    run.add_argument("--home", help="folder for everything a run makes (default: out)")
    run.add_argument("--seed", type=int, help="of weights, batches and noise (default: 0)")
    run.add_argument(
        "--settings", metavar="FILE", help="a YAML file of settings; options given here win over it"
    )
    run.add_argument("--verbose", action="store_true", help="show what TFX, Beam and TensorFlow say as well")


def _choices(title: str, known: dict[str, str]) -> str:
    width = max(map(len, known))
    return f"{title}:\n" + "".join(f"  {name:<{width}}  {text}\n" for name, text in known.items())
