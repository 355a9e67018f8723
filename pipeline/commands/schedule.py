"""latentline schedule: the service that retrains by a crontab expression."""

import argparse
from typing import Any

from pipeline import commands
from pipeline.commands import run
from pipeline.config import exit_codes
from pipeline.config.errors import HomeNotWritable, ScheduleInUse, SettingsError
from pipeline.config.settings import AUTO
from pipeline.home.layout import Home

EXAMPLES = """examples:
  latentline schedule --cron "0 3 * * *" --settings nightly.yaml     every night at 3:00
  latentline schedule --cron "30 2 * * mon-fri" --variants cvae --data /data --home /srv/latentline
  latentline schedule --cron "0 */6 * * *" --settings nightly.yaml --on-failure 'mail -s failed ops@localhost'

The expression is cron's: minute, hour, day, month, weekday (0 or 7 is Sunday), in the machine's time zone.
Only one run is active at a time. Runs that were missed because the machine slept, the service was down or
another run was active are replaced by one run. SIGTERM or Ctrl-C stops the service after the active run has
written a checkpoint; a second signal kills that run. The output of runs is printed and kept in <home>/logs.
"""
EXIT_CODES = {
    "0": "stopped by SIGTERM or Ctrl-C",
    "1": "the home cannot be used, or has a schedule service already",
    "2": "the request is wrong: the cron expression or the settings",
}


def add(parsers: Any) -> None:
    """Add the command's arguments."""
    parser = commands.add(
        parsers,
        "schedule",
        help="run the pipeline on a crontab schedule, as a service in the foreground",
        description="Start `latentline run` with these options whenever a run is due, until stopped.",
        epilog=f"{EXAMPLES}\n{commands.table('exit codes', EXIT_CODES)}",
    )
    parser.add_argument("--cron", required=True, metavar="EXPR", help='five fields, such as "0 3 * * *"')
    run.add_options(parser)
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C, and return the exit code."""
    from pipeline.service import cron
    from pipeline.service.schedule import Service

    try:
        cron.trigger(options.cron)
        settings = run.settings_of(options)
        if settings.data == AUTO:
            raise SettingsError(
                f"data is {AUTO}, which may be another data set each night; give one with --data: "
                "mnist, digits or a folder"
            )
        if settings.new_era:
            raise SettingsError(
                "new_era is a decision about one run, and a schedule would take it every night; give it to "
                "`latentline run` once"
            )
        arguments = run.arguments_of(options)
        Service(Home.of(settings.home), options.cron, arguments, settings.notify).run()
    except (cron.CronError, SettingsError) as error:
        return commands.fail(error, exit_codes.BAD_REQUEST)
    except (ScheduleInUse, HomeNotWritable, ValueError) as error:
        return commands.fail(error, exit_codes.FAILED)
    return exit_codes.OK
