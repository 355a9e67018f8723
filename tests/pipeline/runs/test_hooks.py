"""Hooks: real commands, and a webhook of a real server."""

import contextlib
import dataclasses
import http.server
import json
import os
import pathlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from tallies import Section

from pipeline.config.errors import RunFailed
from pipeline.config.notify import DRIFT, FAILURE, PUSH, Notify
from pipeline.home import journal
from pipeline.home.journal import Result
from pipeline.home.layout import Home
from pipeline.home.process import identity
from pipeline.runs import hooks


class Server(http.server.ThreadingHTTPServer):
    """Answers POSTs with `codes` one after the other, then 200; keeps what it was sent."""

    codes: list[int]
    bodies: list[dict]
    delay = 0.0


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        time.sleep(self.server.delay)
        self.send_response(self.server.codes.pop(0) if self.server.codes else 200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.codes, server.bodies = [], []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/secret-path"


def record(
    home: pathlib.Path, error: BaseException | None = None, **outcomes: journal.Outcome
) -> journal.RunRecord:
    writer = journal.Writer.begin(Home(home), journal.Command.RUN)
    writer.note(variants=outcomes)
    writer.end(1.0, error)
    return writer.record


def test_a_run_tells_of_failure_push_and_drift_and_of_nothing_else(tmp_path: pathlib.Path) -> None:
    pushed, refused = journal.Outcome(Result.PUSHED, 17), journal.Outcome(Result.REFUSED, why="worse")
    assert hooks.events(record(tmp_path, cvae=refused, mlp=journal.Outcome(Result.CACHED, 3))) == []
    assert hooks.events(record(tmp_path, KeyboardInterrupt())) == []
    [push] = hooks.events(record(tmp_path, mlp=pushed, cvae=refused))
    assert (push["event"], push["text"]) == (PUSH, "mlp 17")
    drifted = record(tmp_path, RunFailed("DriftGate failed:\nlabel"))
    drifted = dataclasses.replace(drifted, drift=("label has drifted",))
    failure, drift = hooks.events(drifted)
    assert (failure["event"], failure["text"]) == (FAILURE, "DriftGate failed: label")
    assert (drift["event"], drift["text"]) == (DRIFT, "label has drifted")
    json.dumps([push, failure, drift])


def test_a_command_gets_the_event_on_its_input_and_in_its_environment(tmp_path: pathlib.Path) -> None:
    told = tmp_path / "told"
    command = f"sh -c 'echo $LATENTLINE_EVENT > {told}; cat >> {told}'"
    [event] = hooks.events(record(tmp_path, mlp=journal.Outcome(Result.PUSHED, 17)))
    assert hooks.fire(Notify(on_push=command, on_failure="false"), [event], os.environ) == []
    kind, text = told.read_text().split("\n", 1)
    assert kind == PUSH
    assert json.loads(text)["run"]["variants"]["mlp"]["version"] == 17


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("no-such-command-anywhere", "cannot be run: No such file or directory"),
        ("sh -c 'echo first >&2; echo disk full >&2; exit 3'", "ended with exit code 3: disk full"),
        ("false", "ended with exit code 1"),
    ],
)
def test_a_command_that_fails_is_told_in_a_line(tmp_path: pathlib.Path, command: str, problem: str) -> None:
    events = hooks.events(record(tmp_path, RunFailed("x")))
    [line] = hooks.fire(Notify(on_failure=command), events, os.environ)
    assert line.endswith(problem)
    assert "\n" not in line


@pytest.mark.section(Section.WAITS)
def test_a_command_that_hangs_is_ended_with_all_it_started(tmp_path: pathlib.Path) -> None:
    pid = tmp_path / "pid"
    command = f"sh -c 'sleep 300 & echo $! > {pid}; wait'"
    [line] = hooks.fire(
        Notify(on_failure=command, timeout=0.5), hooks.events(record(tmp_path, RunFailed("x"))), os.environ
    )
    assert "took longer than 0.5 s" in line
    deadline = time.monotonic() + 30
    while identity(int(pid.read_text())) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not identity(int(pid.read_text()))


def test_a_webhook_gets_the_event(tmp_path: pathlib.Path, server: Server) -> None:
    events = hooks.events(record(tmp_path, RunFailed("Trainer.mlp failed: loss is not finite")))
    assert hooks.fire(Notify(webhook=url(server)), events, {}) == []
    [body] = server.bodies
    assert body["event"] == FAILURE
    assert body["text"] == "Trainer.mlp failed: loss is not finite"
    assert body["run"]["exit_code"] == 1


@pytest.mark.section(Section.WAITS)
def test_a_webhook_that_stumbles_is_tried_three_times(tmp_path: pathlib.Path, server: Server) -> None:
    events = hooks.events(record(tmp_path, RunFailed("x")))
    waits: list[float] = []
    server.codes = [500, 503]
    assert hooks.fire(Notify(webhook=url(server)), events, {}, wait=waits.append) == []
    assert len(server.bodies) == 3
    assert waits == [1.0, 2.0]
    server.codes = [500, 500, 500]
    [line] = hooks.fire(Notify(webhook=url(server)), events, {}, wait=waits.append)
    assert line == "webhook on failure (127.0.0.1): answered 500, 3 times"
    assert len(server.bodies) == 6


def test_a_webhook_that_refuses_is_not_asked_again_and_its_path_is_not_told(
    tmp_path: pathlib.Path, server: Server
) -> None:
    server.codes = [404]
    [line] = hooks.fire(Notify(webhook=url(server)), hooks.events(record(tmp_path, RunFailed("x"))), {})
    assert line == "webhook on failure (127.0.0.1): answered 404"
    assert len(server.bodies) == 1


@pytest.mark.section(Section.WAITS)
def test_a_webhook_that_does_not_answer_is_given_up(tmp_path: pathlib.Path, server: Server) -> None:
    server.delay = 1.0
    notify = Notify(webhook=url(server), timeout=0.1)
    [line] = hooks.fire(notify, hooks.events(record(tmp_path, RunFailed("x"))), {}, wait=lambda _: None)
    assert "no answer" in line
    assert "secret-path" not in line


def test_a_secret_url_comes_from_the_environment(tmp_path: pathlib.Path, server: Server) -> None:
    events, notify = hooks.events(record(tmp_path, RunFailed("x"))), Notify(webhook="$LATENTLINE_HOOK")
    assert hooks.fire(notify, events, {"LATENTLINE_HOOK": url(server)}) == []
    assert len(server.bodies) == 1
    [line] = hooks.fire(notify, events, {})
    assert line == "webhook on failure: the environment variable LATENTLINE_HOOK is not set"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"on_push": "echo 'x"}, "on_push is no command"),
        ({"on_drift": " "}, "is blank"),
        ({"webhook": "ftp://x"}, "webhook must begin with http"),
        ({"webhook": "$A B"}, "webhook must begin with http"),
        ({"timeout": 0}, "timeout must be above 0 seconds, got 0"),
    ],
)
def test_hooks_that_cannot_work_are_refused(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Notify(**values)


def failure(tmp_path: pathlib.Path) -> list[hooks.Event]:
    return hooks.events(record(tmp_path, RunFailed("x")))


@pytest.mark.section(Section.WAITS)
def test_what_a_command_leaves_in_the_background_holds_nobody_up(tmp_path: pathlib.Path) -> None:
    left = tmp_path / "left"
    command = f"sh -c 'setsid sleep 300 & echo $! > {left}'"
    try:
        assert hooks.fire(Notify(on_failure=command, timeout=60), failure(tmp_path), os.environ) == []
        assert identity(int(left.read_text()))
    finally:
        os.kill(int(left.read_text()), signal.SIGKILL)


@pytest.mark.section(Section.WAITS)
def test_a_command_may_write_any_bytes(tmp_path: pathlib.Path) -> None:
    command = r"sh -c 'head -c 3000000 /dev/zero >&2; printf \\377\\376 >&2; printf \\nlast >&2; exit 3'"
    [line] = hooks.fire(Notify(on_failure=command), failure(tmp_path), os.environ)
    assert line.endswith("ended with exit code 3: last")


@pytest.mark.parametrize("code", [301, 302, 307, 308])
@pytest.mark.section(Section.WAITS)
def test_a_redirect_is_not_followed(tmp_path: pathlib.Path, server: Server, code: int) -> None:
    server.codes = [code]
    [line] = hooks.fire(Notify(webhook=url(server)), failure(tmp_path), {})
    assert line == f"webhook on failure (127.0.0.1): answered {code}; redirects are not followed"
    assert len(server.bodies) == 1


def serve_raw(answer: Callable[[socket.socket], None]) -> tuple[str, threading.Event]:
    """A server that answers each connection as `answer` says, until the event is set; its address."""
    listener, over = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def run() -> None:
        listener.settimeout(0.1)
        while not over.is_set():
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                threading.Thread(target=answer, args=(connection,), daemon=True).start()
        listener.close()

    threading.Thread(target=run, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}/", over


@pytest.mark.section(Section.WAITS)
def test_the_deadline_is_for_the_whole_answer_and_not_for_each_byte(tmp_path: pathlib.Path) -> None:
    gone = threading.Event()

    def drip(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Drip: ")
            while not gone.wait(0.05):
                connection.sendall(b"x")

    address, over = serve_raw(drip)
    try:
        notify = Notify(webhook=address, timeout=0.5)
        [line] = hooks.fire(notify, failure(tmp_path), {}, wait=lambda _: None)
        assert "no answer (Timeout), 3 times" in line
    finally:
        gone.set()
        over.set()


@pytest.mark.section(Section.WAITS)
def test_an_answer_without_end_is_not_read(tmp_path: pathlib.Path) -> None:
    sent: list[int] = []

    def pour(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
            for _ in range(3000):
                sent.append(connection.send(b"x" * 1_000_000))

    address, over = serve_raw(pour)
    try:
        assert hooks.fire(Notify(webhook=address, timeout=20), failure(tmp_path), {}) == []
        assert sum(sent) < 100_000_000
    finally:
        over.set()


@pytest.mark.parametrize("address", ["http://[bad", "http://a b/", "http://", "\0"])
@pytest.mark.section(Section.WAITS)
def test_an_address_that_is_none_is_one_line(tmp_path: pathlib.Path, address: str) -> None:
    notify = Notify(webhook="$LATENTLINE_HOOK", timeout=5)
    [line] = hooks.fire(notify, failure(tmp_path), {"LATENTLINE_HOOK": address}, wait=lambda _: None)
    assert line.startswith("webhook on failure")
    assert "\n" not in line
