"""latentline run: the whole pipeline, once, on this machine."""

import argparse
import dataclasses
import json
import os
from typing import Any

import yaml

from pipeline import commands
from pipeline.config import engines, exit_codes
from pipeline.config.errors import HomeInUse, HomeNotWritable, RunFailed, SettingsError
from pipeline.config.experiments import changed
from pipeline.config.notify import EVENTS, Notify
from pipeline.config.settings import Settings
from pipeline.home.journal import summary
from schemas import PIXEL_VALUES
from trainer.recipe import PROFILES, PROTOCOLS

EXAMPLES = """examples:
  latentline run                                             all variants, on MNIST
  latentline run --variants cvae,mlp --profile smoke
  latentline run --variants cvae --profile full --data ~/fashion-mnist --home out/fashion
  latentline run --settings nightly.yaml --check
"""
EXIT_CODES = {
    "0": "succeeded, even if a model was not blessed; `status` reports that",
    "1": "failed; the error names what failed, and the same command resumes from there",
    "2": "the request is wrong, or its models could not be compared with what serves; nothing was trained",
    "130": "interrupted (Ctrl-C); the same command resumes the run",
    "143": "stopped (SIGTERM); the same command resumes the run",
}
FIELDS = (
    "variants", "profile", "data", "dataset", PIXEL_VALUES, "subset", "resize", "scale", "protocol", "home",
    "seed", "seeds", "push", "spans", "serving_data", "drift", "new_era", "warm_start", "mlflow", "keep",
    "keep_runs", "jobs",
)  # fmt: skip
"""Options that are settings of the same name."""
HOOKS = (*(f"on_{event}" for event in EVENTS), "webhook")
"""Options that are fields of the settings' `notify`."""


def add(parsers: Any) -> None:
    """Add the command's arguments."""
    parser = commands.add(
        parsers,
        "run",
        help="run the pipeline on this machine",
        description="Prepare the data once, then train, evaluate, compare and push each variant. Whatever\n"
        "has not changed since the last run in the same home is taken from its cache.",
        epilog="\n".join(
            [
                EXAMPLES,
                commands.table("profiles", PROFILES),
                commands.table("protocols", PROTOCOLS),
                commands.table("exit codes", EXIT_CODES),
            ]
        ),
    )
    add_options(parser)
    parser.add_argument(
        "--check", action="store_true", help="show the settings as YAML and run nothing; exit code 2 if wrong"
    )
    parser.set_defaults(execute=execute)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what a run does."""
    parser.add_argument(
        "--variants",
        type=_names,
        help="names of variants or of the settings' experiments, separated by commas (default: all)",
    )
    parser.add_argument("--profile", help="training budget (default: quick)")
    parser.add_argument(
        "--data",
        help="a data set in a form that `latentline import` reads, such as a folder of four IDX files; "
        "`mnist` (MNIST_DIR, the cache, or a download); `digits`; or `auto`: mnist, "
        "and the embedded digits of scikit-learn where it cannot be had (default: auto)",
    )
    parser.add_argument(
        "--dataset",
        metavar="NAME",
        help="name of the data set in the folder --data, by which models compare (default: the folder's)",
    )
    commands.add_reading(parser, (PIXEL_VALUES, "subset", "resize", "scale"), checked=False)
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
        "--new-era",
        action="store_true",
        default=None,
        help="replace, without a comparison, models in production of another data set, protocol, image shape "
        "or number of classes (default: such a run stops before training)",
    )
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
        "--seeds",
        type=_numbers,
        metavar="N,N,...",
        help="train each experiment once per seed, and compare the experiments",
    )
    parser.add_argument(
        "--set",
        action="append",
        metavar="NAME.PART.FIELD=VALUE",
        help="a field of an experiment, as in iwae.config.samples=50 or iwae.recipe.learning_rate=0.0005; "
        "may be given several times",
    )
    parser.add_argument(
        "--push", help="what goes to production: each or none (default: each; with several seeds: none)"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="cores that components may use at the same time; 1: one component after another "
        "(default: what cores and memory allow)",
    )
    parser.add_argument(
        "--beam",
        metavar="NAME",
        help="what Beam's components run on: direct, direct-N for N processes, or an engine of the settings "
        "(default: direct)",
    )
    parser.add_argument(
        "--settings", metavar="FILE", help="a YAML file of settings; options given here win over it"
    )
    parser.add_argument(
        "--keep", type=int, metavar="N", help="versions of a variant that stay, 0 for all (default: 10)"
    )
    parser.add_argument(
        "--keep-runs", type=int, metavar="N", help="runs whose artifacts stay, 0 for all (default: 0)"
    )
    for event in EVENTS:
        parser.add_argument(
            f"--on-{event}", metavar="CMD", help=f"command to run on {event}; gets JSON on its standard input"
        )
    parser.add_argument(
        "--webhook",
        metavar="URL",
        help="gets failure, push, drift and alarm by POST; $NAME names a variable with it",
    )
    parser.add_argument(
        "--verbose", action="store_true", help="show what TFX, Beam and TensorFlow say as well"
    )


def settings_of(options: argparse.Namespace) -> Settings:
    """The settings that the options ask for. Raises SettingsError."""
    given = {name: getattr(options, name) for name in FIELDS if getattr(options, name) is not None}
    settings = Settings.from_file(options.settings) if options.settings else Settings()
    try:
        given["notify"] = with_hooks(settings.notify, options)
        if options.set:
            names = given.get("variants", settings.variants)
            given["experiments"] = changed(settings.experiments, names, options.set)
        if options.beam is not None:
            given["beam"] = {**settings.beam, engines.EVERY: options.beam}
    except ValueError as error:
        raise SettingsError(str(error)) from error
    return dataclasses.replace(settings, **given)


def with_hooks(notify: Notify, options: argparse.Namespace) -> Notify:
    """The hooks, with those that the options give. Raises ValueError."""
    given = {name: getattr(options, name) for name in HOOKS if getattr(options, name) is not None}
    return dataclasses.replace(notify, **given)


def arguments_of(options: argparse.Namespace) -> list[str]:
    """The options of `add_options` as arguments of a command, good from any folder."""
    found = []
    for name in (*FIELDS, *HOOKS, "beam", "settings", "verbose"):
        flag, value = f"--{name.replace('_', '-')}", getattr(options, name)
        if value is True:
            found.append(flag)
        elif value is not None and value is not False:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            path = name in ("home", "settings")
            found += [flag, os.path.abspath(os.path.expanduser(text)) if path else text]
    for assignment in options.set or ():
        found += ["--set", assignment]
    return found


def execute(options: argparse.Namespace) -> int:
    """Run the pipeline."""
    try:
        settings = settings_of(options)
        if options.check:
            engines.check_reachable(settings.beam_arguments)
    except SettingsError as error:
        return commands.fail(error, exit_codes.BAD_REQUEST)
    if options.check:
        print(yaml.safe_dump(json.loads(json.dumps(summary(settings))), sort_keys=False), end="")
        return exit_codes.OK

    from components.ingest.sources import DataSourceError
    from pipeline.runs.run import run

    try:
        run(settings, verbose=options.verbose)
    except SettingsError as error:
        return commands.fail(error, exit_codes.BAD_REQUEST)
    except (DataSourceError, HomeInUse, HomeNotWritable) as error:
        return commands.fail(error, exit_codes.FAILED)
    except RunFailed as error:
        return commands.fail(error, error.exit_code)
    except KeyboardInterrupt:
        return commands.fail(
            "interrupted; what is done is kept, and the same command goes on", exit_codes.INTERRUPTED
        )
    except SystemExit as stopped:
        if stopped.code != exit_codes.STOPPED:
            raise
        return commands.fail(
            "stopped (SIGTERM); finished components are kept, and the same command resumes the run",
            exit_codes.STOPPED,
        )
    return exit_codes.OK


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name for name in text.split(",") if name)
    if not names:
        raise argparse.ArgumentTypeError("expected names of variants; leave the option out to train all")
    return names


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected whole numbers, as in 0,1,2; got {text!r}") from None
