"""latentline schedule: the service that retrains when a crontab expression says so."""

import argparse
import os
import pathlib
import subprocess
from typing import Any

import yaml

from pipeline import commands
from pipeline.commands import run
from pipeline.config.errors import HomeNotWritable, ScheduleInUse, SettingsError
from pipeline.config.notify import Notify
from pipeline.home.layout import Home
from pipeline.home.process import command, environment
from schemas import strict

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

    arguments = run.arguments_of(options)
    try:
        cron.trigger(options.cron)
        checked = _check(arguments)
        notify = run.with_hooks(_notify(options.settings), options)
        Service(Home.of(checked["home"]), options.cron, arguments, notify).run()
    except (cron.CronError, SettingsError) as error:
        return commands.fail(error, commands.BAD_REQUEST)
    except (ScheduleInUse, HomeNotWritable, ValueError) as error:
        return commands.fail(error, commands.FAILED)
    return commands.OK


def _check(arguments: list[str]) -> dict[str, Any]:
    """The settings of the runs, as another process reads them: that may import TensorFlow, this must not."""
    checked = subprocess.run(
        command("run", *arguments, "--check"),
        env=environment(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    if checked.returncode:
        raise SettingsError(checked.stderr.strip().removeprefix("latentline: error: "))
    values: dict[str, Any] = yaml.safe_load(checked.stdout)
    return values


def _notify(path: str | None) -> Notify:
    """The hooks of a settings file that was checked."""
    values = yaml.safe_load(pathlib.Path(path).read_text()) if path else None
    return strict.from_mapping(Notify, (values or {}).get("notify") or {})
