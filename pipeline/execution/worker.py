"""One of the workers that train a model together: `python -m pipeline.execution.worker --arguments FILE ...`.

The task that created the workers has written the arguments of the training, below the pipeline root;
TF_CONFIG says who the others are. A worker does not open the metadata store. Worker 0 writes checkpoints and
the model, for all.

Exit codes: 0; 1 if training failed; 2 for arguments that are damaged or wrong; 143 after a SIGTERM.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.config.exit_codes import BAD_REQUEST, FAILED, OK, STOPPED
from pipeline.execution.events import add_options, ended, innermost, listen, tell
from schemas import strict
from trainer.devices import threads

NUMBER = "LATENTLINE_WORKER"
"""Environment variable with the number of this worker."""


class BadArguments(ValueError):
    """The file of arguments is missing, damaged, or not one that this code understands."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What a training is given; see FnArgs of TFX, which has these and more."""

    train_files: list[str]
    eval_files: list[str]
    transform_graph_path: str
    serving_model_dir: str
    model_run_dir: str
    custom_config: Mapping[str, Any]
    base_model: str | None = None


FIELDS = tuple(field.name for field in dataclasses.fields(Arguments))


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; see the module for the exit codes."""
    options = _parser().parse_args(arguments)
    listen(options.log_format, options.verbose)
    threads.one_an_operation()
    sys.exit(work(options.arguments, options.sha256, f"worker-{os.environ.get(NUMBER, '')}"))


def work(path: str, sha256: str, name: str) -> int:
    """Train with the arguments of a file; the exit code.

    The last line says why it failed, since Kubernetes shows the end of the log as the reason of a pod.
    """
    try:
        arguments = read(path, sha256)
        from trainer.run import run_fn

        tell(True, "started", node=name)
        run_fn(arguments)
    except BadArguments as error:
        return ended(name, BAD_REQUEST, "refused", error=str(error))
    except SystemExit as error:
        return ended(
            name, STOPPED if error.code == STOPPED else FAILED, "stopped", error=f"exit {error.code}"
        )
    except Exception as error:  # the one boundary of this process
        tell(False, "training failed", traceback=traceback.format_exc())
        return ended(name, FAILED, "failed", error=innermost(error))
    return ended(name, OK, "complete")


def read(path: str, sha256: str) -> Arguments:
    """Return the arguments in a file with that digest. Raises BadArguments."""
    import tensorflow as tf

    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            data = file.read()
    except tf.errors.OpError as error:
        raise BadArguments(
            f"cannot read {path} ({error.message}); the workers need the volume of the tasks"
        ) from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise BadArguments(f"the file {path} has the sha256 {found}, expected {sha256}: it is damaged")
    try:
        return strict.from_mapping(Arguments, json.loads(data))
    except ValueError as error:
        raise BadArguments(
            f"the image of the workers does not understand {path} ({error}): it holds other code"
        ) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.execution.worker",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=__doc__,
    )
    parser.add_argument("--arguments", required=True, help="file with the arguments of the training")
    parser.add_argument("--sha256", required=True, help="of the file")
    add_options(parser)
    return parser


if __name__ == "__main__":
    main()
