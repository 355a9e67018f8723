import pathlib
import subprocess
import sys

NOISE = """
import logging, os, sys, warnings
from pipeline.execution.quiet import quiet
print("before")
with quiet(sys.argv[1], verbose={verbose}):
    os.write(2, b"from C++\\n")
    logging.getLogger("tfx").info("from a logger")
    warnings.warn("from a warning")
    print("for the user")
print("after")
"""


def run(path: pathlib.Path, verbose: bool) -> subprocess.CompletedProcess[str]:
    program = NOISE.format(verbose=verbose)
    return subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )


def test_the_terminal_shows_what_is_for_the_user_and_the_log_the_rest(tmp_path: pathlib.Path) -> None:
    result = run(tmp_path / "log", verbose=False)
    assert result.stdout.splitlines() == ["before", "for the user", "after"]
    assert result.stderr == ""
    log = (tmp_path / "log").read_text()
    assert all(text in log for text in ("from C++", "from a logger", "from a warning"))


def test_verbose_shows_everything_and_logs_it_too(tmp_path: pathlib.Path) -> None:
    result = run(tmp_path / "log", verbose=True)
    assert "from a logger" in result.stderr
    assert "from C++" in result.stderr
    assert "from a logger" in (tmp_path / "log").read_text()


FULL = """
import logging, sys
from pipeline.execution.quiet import quiet
try:
    with quiet("/dev/full", verbose=False):
        logging.getLogger("tfx").info("from a logger")
        sys.stderr.write("from a library, without an end of line")
        print("for the user")
        raise RuntimeError("the run has failed")
except RuntimeError as error:
    print(error, file=sys.stderr)
print("after")
"""


def test_a_log_on_a_full_disk_hides_no_error_and_leaves_the_terminal_as_it_was() -> None:
    result = subprocess.run([sys.executable, "-c", FULL], capture_output=True, text=True, check=False)
    assert result.stdout.splitlines() == ["for the user", "after"]
    assert result.stderr == "the run has failed\n"
