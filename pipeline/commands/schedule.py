"""latentline schedule: the service that retrains when a crontab expression says so."""

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
One run at a time. A run that was due while the machine slept, the service was down or another run was under
way is made up for once, however many were missed. SIGTERM or Ctrl-C stops the service after the run under
way has left a checkpoint; a second one kills that run. What runs print goes here and to <home>/logs.
"""
EXIT_CODES = {
    "0": "stopped by SIGTERM or Ctrl-C, in good order",
    "1": "the home cannot be used, or has a schedule service already",
    "2": "the request is wrong: the cron expression or the settings",
}


def add(parsers: Any) -> None:
    """Add the command's arguments."""
    parser = commands.add(
        parsers,
        "schedule",
        help="run the pipeline when a crontab expression says so, as a service in the foreground",
        description="Start `latentline run` with these options whenever it is due, until told to stop.",
        epilog=f"{EXAMPLES}\n{commands.table('exit codes', EXIT_CODES)}",
    )
    parser.add_argument("--cron", required=True, metavar="EXPR", help='five fields, such as "0 3 * * *"')
    run.add_options(parser)
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Serve until told to stop."""
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
        arguments = run.arguments_of(options)
        Service(Home.of(settings.home), options.cron, arguments, settings.notify).run()
    except (cron.CronError, SettingsError) as error:
        return commands.fail(error, exit_codes.BAD_REQUEST)
    except (ScheduleInUse, HomeNotWritable, ValueError) as error:
        return commands.fail(error, exit_codes.FAILED)
    return exit_codes.OK
