"""Starts `latentline` commands from a process that has imported everything: warm_process.py, then JSON lines.

Asked {"start": arguments, "module": name, "environment": {...}, "folder": path, "out": file, "err": file} it
forks a child in a process group of its own that calls the module's main with the arguments in that folder,
and answers {"pid": ...}.
When a child is gone it says {"pid": ..., "code": ...}, the code of a killed one negative. Asked {"run":
command} it runs that command and answers {"code": ..., "err": ...}: for mounts, which belong to this
process's namespace.
"""

import importlib
import json
import os
import select
import signal
import subprocess
import sys
from typing import Any

PRELOADED = (
    "pipeline.runs.run",
    "pipeline.execution.local",
    "pipeline.pipeline",
    "pipeline.home.recovery",
    "pipeline.runs.report",
    "pipeline.execution.node",
)


def main() -> None:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    for name in ("pipeline.cli", *PRELOADED):
        importlib.import_module(name)
    answer({"ready": os.getpid()})
    pending = b""
    while True:
        readable, _, _ = select.select([0], [], [], 0.02)
        if readable:
            received = os.read(0, 1 << 16)
            if not received:
                return
            *lines, pending = (pending + received).split(b"\n")
            for line in lines:
                serve(json.loads(line))
        reap()


def serve(request: dict[str, Any]) -> None:
    if "run" in request:
        done = subprocess.run(request["run"], capture_output=True, text=True, check=False)
        answer({"code": done.returncode, "err": done.stderr})
        return
    if child := os.fork():
        answer({"pid": child})
        return
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    for descriptor, path in ((1, request["out"]), (2, request["err"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(request["folder"])
    for name, value in request["environment"].items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    code = 1
    try:
        importlib.import_module(request["module"]).main(request["start"])
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def reap() -> None:
    try:
        while (gone := os.waitpid(-1, os.WNOHANG))[0]:
            answer({"pid": gone[0], "code": os.waitstatus_to_exitcode(gone[1])})
    except ChildProcessError:
        pass


def answer(value: dict[str, Any]) -> None:
    os.write(1, json.dumps(value).encode() + b"\n")


if __name__ == "__main__":
    main()
