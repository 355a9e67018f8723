"""latentline accept and resume: end an alarm for slow decline, by somebody's decision."""

import argparse
from typing import Any

from pipeline import commands
from pipeline.commands.promote import add_common, change

EXAMPLES = """examples:
  latentline {word} cvae --reason "{reason}"
  latentline {word} cvae --cluster kubeflow/cluster.yaml --reason "{reason}"

An alarm says that the candidates of a variant have become worse over many nights; while it stands, none of
them is pushed. Three commands end it, each with a reason: `accept` takes the level for the new one, and an
era begins; `resume` says that the cause is removed, and later nights count against the old level; `rollback`
restores an earlier model and resumes. ML Metadata records who did it, why and when; `latentline lineage`
shows it.
"""
EXIT_CODES = {
    "0": "the alarm is ended",
    "1": "nothing was changed: no alarm of the variant stands, or the home is in use",
}
WORDS = {
    "accept": ("take the level that an alarm was raised at for the new one", "smaller model, as agreed"),
    "resume": ("end an alarm whose cause is removed", "labels of the spans since May 3 are corrected"),
}


def add(parsers: Any) -> None:
    """Add the two commands' arguments."""
    for word, (help, reason) in WORDS.items():
        parser = commands.add(
            parsers,
            word,
            help=help,
            description=f"{help[0].upper()}{help[1:]}.",
            epilog=f"{EXAMPLES.format(word=word, reason=reason)}\n{commands.table('exit codes', EXIT_CODES)}",
        )
        parser.add_argument("variant")
        add_common(parser)
        parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """End the alarm, report what follows and return the exit code."""
    if options.cluster:
        return commands.on_cluster(options, [options.command, options.variant, f"--reason={options.reason}"])

    from pipeline.home.journal import Command
    from pipeline.registry import alarm_end

    word = Command(options.command)
    return change(
        lambda home: alarm_end.end(home, options.variant, word, options.reason, print),
        options,
        alarm_end.description,
    )
