"""What can go wrong for a user, each with a message that stands alone."""

from pipeline.config import exit_codes


class SettingsError(ValueError):
    """A setting is wrong; the message says what was found and what is accepted, in one line."""

    def __init__(self, message: str) -> None:
        words = " ".join(message.split())
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in words))


class HomeInUse(RuntimeError):
    """Another run is using the home."""


class HomeNotWritable(RuntimeError):
    """The home cannot be written to."""


class RunFailed(RuntimeError):
    """Some component failed; the message has a line for each that did."""

    leaderboard = ""
    """As text, of the variants that did not fail; empty where there is no report."""
    exit_code = exit_codes.FAILED
    """Of the command whose run failed."""


class RunRefused(RunFailed):
    """A run that stopped before training, since its models could not be compared with what serves."""

    exit_code = exit_codes.BAD_REQUEST


class MetadataDamaged(RunFailed):
    """The metadata database cannot be used; the message says how to go on."""


class Stopped(SystemExit):
    """Told to stop by SIGTERM; not an Exception, so that no component takes it for a failure of its own."""


class ScheduleInUse(RuntimeError):
    """The home has a schedule service already."""
