"""Hooks for failures, pushes, drift and alarms: the `notify` of the settings."""

import dataclasses
import shlex
import urllib.parse

FAILURE, PUSH, DRIFT, ALARM = "failure", "push", "drift", "alarm"
EVENTS = (FAILURE, PUSH, DRIFT, ALARM)


@dataclasses.dataclass(frozen=True)
class Notify:
    """Hooks at the end of a run; without any, nobody is notified.

    Attributes:
      on_failure: command when a run failed, or crashed.
      on_push: command when a variant was pushed.
      on_drift: command when the data has drifted.
      on_alarm: command when an alarm for slow decline was raised; once, not while it stands.
      webhook: URL that gets every event by POST; or $NAME, an environment variable that holds the URL, where
        whoever knows it may post to it.
      timeout: seconds that a command, or an answer to the webhook, may take.

    Commands are split into words as a shell does, and run without one; `sh -c '...'` brings it in.
    """

    on_failure: str = ""
    on_push: str = ""
    on_drift: str = ""
    on_alarm: str = ""
    webhook: str = ""
    timeout: float = 30.0

    def __post_init__(self) -> None:
        for event in EVENTS:
            command = self.command(event)
            try:
                words = shlex.split(command)
            except ValueError as error:
                raise ValueError(f"on_{event} is no command: {error} in {command!r}") from error
            if command and not words:
                raise ValueError(f"on_{event} is blank; leave it out for no command")
        if self.webhook and not _is_webhook(self.webhook):
            raise ValueError(
                "webhook must begin with http:// or https://, or be $NAME of an environment variable"
            )
        if self.timeout <= 0:
            raise ValueError(f"timeout must be above 0 seconds, got {self.timeout}")

    def command(self, event: str) -> str:
        """The command for an event; empty for none."""
        commands = {
            FAILURE: self.on_failure, PUSH: self.on_push, DRIFT: self.on_drift, ALARM: self.on_alarm,
        }  # fmt: skip
        return commands[event]


def _is_webhook(text: str) -> bool:
    if text.startswith("$"):
        return text[1:].isidentifier()
    parts = urllib.parse.urlsplit(text)
    return parts.scheme in ("http", "https") and bool(parts.hostname)
