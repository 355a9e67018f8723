"""A headless Chromium, spoken to through its DevTools protocol."""

import base64
import contextlib
import itertools
import json
import pathlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import requests
import websocket

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WAIT_SECONDS = 60.0


def find() -> str | None:
    """The browser's executable, if one is installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """A tab. Remembers every error that a page wrote, threw or met while loading."""

    def __init__(self, socket: websocket.WebSocket) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self.errors: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)  # pages get focus events as in a window
        self.requests: list[str] = []

    def call(self, method: str, **parameters: Any) -> Any:
        """One command and its result. Raises RuntimeError where the browser refuses."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        about = message.get("params", {})
        kind = message.get("method")
        if kind == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(about["exceptionDetails"]))
        elif kind == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
            self.errors.append(json.dumps(about["args"]))
        elif kind == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.errors.append(json.dumps(about["entry"]))
        elif kind == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, promises awaited. Raises RuntimeError where it throws."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def open(self, path: pathlib.Path, width: int, height: int, scheme: str = "light") -> None:
        """Load a file in a window of so many CSS pixels, in the colour scheme light or dark."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},  # a test cannot wait for a smooth scroll
        ]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call("Page.navigate", url=path.resolve().as_uri())
        loaded = "document.readyState === 'complete' && location.protocol === 'file:'"
        deadline = time.monotonic() + WAIT_SECONDS
        while not self.evaluate(loaded):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path} did not load within {WAIT_SECONDS:g} s")
            time.sleep(0.05)

    def screenshot(self, whole: bool = True) -> bytes:
        """The page as PNG; all of it or what is in view."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(answer["data"])


@contextlib.contextmanager
def page(executable: str, profile: pathlib.Path) -> Iterator[Page]:
    """A tab of a new browser, which ends with the block. profile: an empty folder for it."""
    arguments = [
        executable, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--remote-debugging-port=0", "--remote-allow-origins=*", f"--user-data-dir={profile}",
        "--no-first-run", "--disable-extensions", "--disable-background-networking", "about:blank",
    ]  # fmt: skip
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        tab = _tab(_port(process, profile))
        socket = websocket.create_connection(tab, timeout=WAIT_SECONDS)
        try:
            yield Page(socket)
        finally:
            socket.close()
    finally:
        process.terminate()
        process.wait(WAIT_SECONDS)


def _port(process: "subprocess.Popen[bytes]", profile: pathlib.Path) -> str:
    written = profile / "DevToolsActivePort"
    deadline = time.monotonic() + WAIT_SECONDS
    while not (written.exists() and written.read_text().strip()):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the browser did not start (exit code {process.poll()})")
        time.sleep(0.05)
    return written.read_text().split("\n")[0]


def _tab(port: str) -> str:
    session = requests.Session()
    session.trust_env = False  # a proxy has no business between two processes of this machine
    tabs = session.get(f"http://127.0.0.1:{port}/json/list", timeout=WAIT_SECONDS).json()
    return str(next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page"))
