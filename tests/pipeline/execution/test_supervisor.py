import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from pipeline.execution import supervisor
from pipeline.execution.supervisor import STOPPED, Supervisor


@pytest.fixture
def count(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "count"


def script(count: pathlib.Path, body: str) -> list[str]:
    """A process that counts its attempts; `n` is the number of this one."""
    return [
        sys.executable, "-c",
        "import os, sys, time, signal\n"
        f"path = {str(count)!r}\n"
        "open(path, 'a').write('x')\n"
        "n = os.path.getsize(path)\n" + body,
    ]  # fmt: skip


def attempts(count: pathlib.Path) -> int:
    return len(count.read_text())


def failed(code: int) -> bool:
    return code < 0 or code == 1


def test_what_succeeds_is_done_once(count: pathlib.Path) -> None:
    assert Supervisor(script(count, "sys.exit(0)"), failed).run(3, 0.01) == 0
    assert attempts(count) == 1


@pytest.mark.parametrize("end", ["sys.exit(1)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_what_fails_or_is_killed_is_started_again(count: pathlib.Path, end: str) -> None:
    assert Supervisor(script(count, f"if n < 3: {end}"), failed).run(3, 0.01) == 0
    assert attempts(count) == 3


def test_attempts_are_bounded_and_the_last_code_is_returned(count: pathlib.Path) -> None:
    assert Supervisor(script(count, "sys.exit(1)"), failed).run(3, 0.01) == 1
    assert attempts(count) == 3


@pytest.mark.parametrize("code", [2, 3, 6])
def test_what_another_attempt_would_not_change_is_not_repeated(count: pathlib.Path, code: int) -> None:
    assert Supervisor(script(count, f"sys.exit({code})"), failed).run(3, 0.01) == code
    assert attempts(count) == 1


@pytest.mark.parametrize("attempt", [1, 2])
def test_a_sigterm_is_passed_on_and_no_attempt_follows(count: pathlib.Path, attempt: int) -> None:
    body = (
        f"if n < {attempt}: sys.exit(1)\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        "open(path + '.ready', 'w').close()\n"
        "time.sleep(60)"
    )

    def stop() -> None:
        while not os.path.exists(f"{count}.ready"):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    assert Supervisor(script(count, body), failed).run(5, 0.01) == STOPPED
    assert attempts(count) == attempt


def test_a_sigterm_while_waiting_ends_the_wait(count: pathlib.Path) -> None:
    def stop() -> None:
        while not count.exists():
            time.sleep(0.01)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    assert Supervisor(script(count, "sys.exit(1)"), failed).run(5, 3600.0) == STOPPED
    assert attempts(count) == 1


def test_the_handler_of_before_is_back_afterwards(count: pathlib.Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    Supervisor(script(count, "sys.exit(1)"), failed).run(2, 0.01)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(("text", "value"), [("30s", 30.0), ("5m", 300.0), ("1h", 3600.0), ("0s", 0.0)])
def test_durations_are_read(text: str, value: float) -> None:
    assert supervisor.seconds(text) == value


@pytest.mark.parametrize("text", ["", "30", "-1s", "1d", "1.5h", "99999999999s"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a duration such as 30s"):
        supervisor.seconds(text)


def test_the_supervisor_imports_nothing_that_is_large() -> None:
    command = (
        "import pipeline.execution.node, sys\n"
        "large = {'tensorflow', 'tfx', 'apache_beam', 'numpy', 'ml_metadata'} & set(sys.modules)\n"
        "sys.exit(len(large))"
    )
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0
