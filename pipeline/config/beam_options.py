"""The arguments that Beam knows, as Beam itself declares them; imported only where somebody gives some."""

import argparse
import difflib
import functools
import re
from typing import NoReturn

from apache_beam.options import pipeline_options
from apache_beam.version import __version__ as beam_version

RUNNERS = ("DirectRunner", "FlinkRunner", "SparkRunner", "PortableRunner", "DataflowRunner")
WITH_JOB_SERVER = ("FlinkRunner", "SparkRunner", "PortableRunner")
DATAFLOW_NEEDS = ("project", "region", "temp_location")
ENVIRONMENTS = ("DOCKER", "PROCESS", "EXTERNAL", "LOOPBACK")
SECRET = re.compile("secret|password|token")


class _Parser(argparse.ArgumentParser):
    """Beam's options; a mistake raises ValueError instead of ending the process."""

    add_value_provider_argument = pipeline_options._BeamArgumentParser.add_value_provider_argument

    def error(self, message: str) -> NoReturn:
        """Raise ValueError; argparse calls this."""
        raise ValueError(message)


@functools.lru_cache
def check(arguments: tuple[str, ...], at: str) -> None:
    """Raise ValueError, which begins with the place `at`, for arguments that Beam does not know.

    So it does where a runner lacks an argument that it needs. Nothing is connected to.
    """
    for argument in arguments:
        name = argument.partition("=")[0]
        if SECRET.search(name):
            raise ValueError(
                f"{at}: {name} would be kept in the journal; give secrets in the environment of the process"
            )
    try:
        options, rest = _parser().parse_known_args(list(arguments))
    except ValueError as error:
        raise ValueError(f"{at}: {error}") from error
    _check_runner(options, at)
    for argument in rest:
        _check_unknown(argument, bool(options.job_endpoint), at)


def foreign(arguments: tuple[str, ...]) -> list[str]:
    """Return the names of the options that Beam's Python SDK does not know."""
    return [argument.partition("=")[0] for argument in _parser().parse_known_args(list(arguments))[1]]


def _check_unknown(argument: str, served: bool, at: str) -> None:
    """Raise ValueError for an argument that Beam's Python SDK does not know.

    served: whether a job server gets the job, which has options of its own. It is asked when it gets the job;
    only an option that looks like a misspelt one of the SDK is refused before.
    """
    name, sign, _ = argument.partition("=")
    if not name.startswith("--"):
        raise ValueError(f"{at}: expected arguments such as --name=value, got {argument!r}")
    known = [text for action in _parser()._actions for text in action.option_strings]
    close = difflib.get_close_matches(name, known, 1, 0.85 if served else 0.6)
    if close or not served:
        raise ValueError(
            f"{at}: Beam {beam_version} has no option {name}; "
            + (f"did you mean {close[0]}?" if close else "its pipeline options are in Beam's documentation")
        )
    if not sign:
        raise ValueError(f"{at}: write an option of the job server as {name}=VALUE")


def _check_runner(options: argparse.Namespace, at: str) -> None:
    """Raise ValueError for a runner that does not exist or lacks what it needs."""
    runner = options.runner or RUNNERS[0]
    name = next((known for known in RUNNERS if known.lower() == runner.lower()), "")
    if not name:
        raise ValueError(f"{at}: no runner {runner!r}; choose from {', '.join(RUNNERS)}")
    jar = options.flink_job_server_jar if name == "FlinkRunner" else options.spark_job_server_jar
    if name in WITH_JOB_SERVER and not options.job_endpoint and (not jar or name == "PortableRunner"):
        raise ValueError(
            f"{at}: {name} needs --job_endpoint=HOST:PORT of a Beam job server that runs"
            + (f", or --{name[:-6].lower()}_job_server_jar=FILE" if name != "PortableRunner" else "")
        )
    if name == "DataflowRunner":
        missing = [f"--{need}" for need in DATAFLOW_NEEDS if not getattr(options, need)]
        if missing:
            raise ValueError(f"{at}: {name} needs {', '.join(missing)}")
    environment = options.environment_type
    if name in WITH_JOB_SERVER and environment:
        if environment not in ENVIRONMENTS:
            raise ValueError(
                f"{at}: no environment_type {environment!r}; choose from {', '.join(ENVIRONMENTS)}"
            )
        if environment == "EXTERNAL" and not (options.environment_config or options.environment_options):
            raise ValueError(
                f"{at}: --environment_type=EXTERNAL needs --environment_config=HOST:PORT of a worker pool"
            )


@functools.cache
def _parser() -> _Parser:
    parser = _Parser(add_help=False, allow_abbrev=False)
    for options in pipeline_options.PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)
    return parser
