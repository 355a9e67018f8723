"""latentline run: the whole pipeline, once, on this machine."""

import argparse
import dataclasses
from typing import Any

from pipeline import commands
from pipeline.errors import HomeInUse, HomeNotWritable, RunFailed, SettingsError
from pipeline.settings import Settings
from trainer.recipe import PROFILES, PROTOCOLS

EXIT_CODES = {
    "0": "all went well, also where a model was not blessed: `status` tells that apart",
    "1": "the run failed; what failed is named, and the same command goes on from there",
    "2": "the request is wrong; nothing was run",
    "130": "interrupted (Ctrl-C); the same command goes on",
    "143": "told to stop (SIGTERM); the same command goes on",
}
FIELDS = (
    "variants", "profile", "data", "protocol", "home", "seed", "spans", "serving_data", "drift", "warm_start",
    "mlflow",
)  # fmt: skip
"""Options that are settings of the same name."""


def add(parsers: Any) -> None:
    """Add the command's arguments."""
    parser = commands.add(
        parsers,
        "run",
        help="run the pipeline on this machine",
        description="Prepare the data once, then train, evaluate, compare and push each variant. What has\n"
        "not changed since the last run in the same home is taken from its cache.",
        epilog="\n".join(
            [
                commands.table("profiles", PROFILES),
                commands.table("protocols", PROTOCOLS),
                commands.table("exit codes", EXIT_CODES),
            ]
        ),
    )
    add_settings(parser)
    parser.add_argument(
        "--verbose", action="store_true", help="show what TFX, Beam and TensorFlow say as well"
    )
    parser.set_defaults(execute=execute)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the options that make up Settings."""
    parser.add_argument(
        "--variants", type=_names, help="names, separated by commas (default: all; see `list`)"
    )
    parser.add_argument("--profile", help="training budget (default: quick)")
    parser.add_argument(
        "--data",
        help="a folder of four IDX files; `mnist` (MNIST_DIR, the cache, or a download); or `auto`: mnist, "
        "and the embedded digits of scikit-learn where it cannot be had (default: auto)",
    )
    parser.add_argument("--protocol", help="binarization (default: threshold)")
    parser.add_argument("--home", help="folder for everything a run makes (default: out)")
    parser.add_argument(
        "--spans",
        type=int,
        metavar="N",
        help="--data holds folders span-1, span-2, ...: train on the newest N together, test on the newest "
        "(default: 0, --data holds the images itself)",
    )
    parser.add_argument(
        "--serving-data",
        metavar="DIR",
        help="TFRecord files of tf.Examples as clients sent them, to be compared with the training data",
    )
    parser.add_argument("--drift", help="what drift or skew of the data does: stop or warn (default: stop)")
    parser.add_argument(
        "--warm-start",
        action="store_true",
        default=None,
        help="start each training from the weights of the model in production (default: cold)",
    )
    parser.add_argument(
        "--mlflow", metavar="URI", help="log results there too: a folder, file:///..., or http://server"
    )
    parser.add_argument("--seed", type=int, help="of weights, batches and noise (default: 0)")
    parser.add_argument(
        "--settings", metavar="FILE", help="a YAML file of settings; options given here win over it"
    )


def settings_of(options: argparse.Namespace) -> Settings:
    """The settings that the options ask for. Raises SettingsError."""
    given = {name: getattr(options, name) for name in FIELDS if getattr(options, name) is not None}
    if not options.settings:
        return Settings(**given)
    return dataclasses.replace(Settings.from_file(options.settings), **given)


def execute(options: argparse.Namespace) -> int:
    """Run the pipeline."""
    from components.sources import DataSourceError
    from pipeline.run import run

    try:
        run(settings_of(options), verbose=options.verbose)
    except SettingsError as error:
        return commands.fail(error, commands.BAD_REQUEST)
    except (DataSourceError, HomeInUse, HomeNotWritable, RunFailed) as error:
        return commands.fail(error, commands.FAILED)
    except KeyboardInterrupt:
        return commands.fail(
            "interrupted; what is done is kept, and the same command goes on", commands.INTERRUPTED
        )
    except SystemExit as stopped:
        if stopped.code != commands.STOPPED:
            raise
        return commands.fail(
            "told to stop (SIGTERM); what is done is kept, and the same command goes on", commands.STOPPED
        )
    return commands.OK


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)
