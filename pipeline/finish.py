"""End a run on a cluster: what its exit task does once all other tasks have ended, however they have ended.

    python -m pipeline.finish --run-id ID --plan TEXT

The environment names the metadata store as for pipeline.node; pipeline.runs.finish does the work.

Exit codes: 0, also when a hook has failed, which the log says; 2 for a wrong request; 4 for a metadata store
that cannot be used; 1 for anything else.
"""

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Sequence

from pipeline.config.exit_codes import BAD_REQUEST, FAILED
from pipeline.execution import node
from pipeline.execution.events import add_options, ended, listen
from pipeline.execution.plan import BadPlan, Plan
from trainer.devices import threads

NODE = "finish"
"""What the log calls this task."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; see the module for the exit codes."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    listen(options.log_format, options.verbose)
    threads.one_an_operation()
    from pipeline.runs import finish  # imports TensorFlow, which `listen` has told to be silent

    try:
        finish.finish(options.run_id, Plan.from_text(options.plan), node.connect(os.environ), os.environ)
    except (node.BadRequest, BadPlan) as error:
        sys.exit(ended(NODE, BAD_REQUEST, "refused", error=str(error)))
    except node.MetadataUnusable as error:
        sys.exit(ended(NODE, node.NO_METADATA, "metadata store unusable", error=str(error)))
    except Exception as error:  # the one boundary of this process
        sys.exit(ended(NODE, FAILED, "failed", error=str(error), traceback=traceback.format_exc()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.finish",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=__doc__,
    )
    parser.add_argument("--run-id", required=True, help="of the run that has ended")
    parser.add_argument("--plan", required=True, help="what the pipeline is compiled from, with the hooks")
    add_options(parser)
    return parser


if __name__ == "__main__":
    main()
