import pathlib
import subprocess
import sys

import pytest

BODY = """
import os, sys, time
from pipeline.execution.events import listen, tell
listen("plain", False)
tell(True, "started")
while os.path.exists(sys.argv[1]):  # until nobody reads
    time.sleep(0.01)
for index in range(3000):
    print("a line on standard output")
    tell(True, "a line on standard error", index=index)
os.write(1, b"what a library writes")
sys.stdout.flush()
open(sys.argv[2], "w").write("whole")
"""


@pytest.mark.parametrize("closed", [["stdout"], ["stderr"], ["stdout", "stderr"]])
def test_an_output_that_is_closed_cuts_nothing_short(tmp_path: pathlib.Path, closed: list[str]) -> None:
    reads, done = tmp_path / "reads", tmp_path / "done"
    reads.touch()
    pipes = {name: subprocess.PIPE if name in closed else subprocess.DEVNULL for name in ("stdout", "stderr")}
    process = subprocess.Popen([sys.executable, "-c", BODY, str(reads), str(done)], **pipes)  # type: ignore[call-overload]
    for name in closed:
        getattr(process, name).close()
    reads.unlink()
    assert process.wait(60) == 0
    assert done.read_text() == "whole"
