"""Kubeflow Pipelines' API over HTTP: requests with a deadline and a limit, whose failures are sentences."""

import contextlib
import dataclasses
import json
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import requests

from pipeline.config.cluster import Endpoint
from pipeline.config.errors import SettingsError

MOST_BYTES = 64 * 1024 * 1024
"""Bytes of an answer that are read at most."""
MOST_WORDS = 600
"""Characters that are shown of what the server says."""


class DeployError(RuntimeError):
    """The server did not do what was asked; the message says why and what to do."""


class NotFound(DeployError):
    """The server does not have what was asked for."""


class Transport(Protocol):
    """Sends one request to the API and gives its JSON answer."""

    def __call__(
        self, method: str, path: str, query: Mapping[str, Any], body: Any = None, file: str = ""
    ) -> Any:
        """path: below /apis/v2beta1; body: for JSON; file: path of one to upload. Raises DeployError."""
        ...


@dataclasses.dataclass(frozen=True)
class Credentials:
    """What is sent to prove who asks; never printed."""

    headers: Mapping[str, str] = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the server answered: HTTP status, its reason phrase, and the body."""

    status: int
    reason: str
    content: bytes

    def json(self) -> dict[str, Any] | None:
        """Return the body as a JSON object; None if it is none."""
        try:
            found = json.loads(self.content)
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    def words(self) -> str:
        """Return the server's own words, from any of the fields it puts them in, fit for a terminal."""
        found = self.json()
        if found is None:
            return shown(self.reason) or "no reason given"
        texts = (found.get(key) for key in ("message", "error_message", "error"))
        return shown(next((text for text in texts if text), "")) or "no reason given"


class Http:
    """Requests over HTTP, whose failures are sentences."""

    def __init__(self, endpoint: Endpoint, credentials: Credentials) -> None:
        self._endpoint = endpoint
        self._session = requests.Session()
        self._session.headers.update(credentials.headers)
        self._session.verify = endpoint.ca_certificate or True

    def __call__(
        self, method: str, path: str, query: Mapping[str, Any], body: Any = None, file: str = ""
    ) -> Any:
        """See Transport."""
        url = f"{self._endpoint.url.rstrip('/')}/apis/v2beta1{path}"
        try:
            with _opened(file) as files:
                answer = self._session.request(
                    method, url, params=query, json=body, files=files, timeout=self._endpoint.timeout,
                    allow_redirects=False, stream=True,
                )  # fmt: skip
                content = _read(answer, time.monotonic() + 2 * self._endpoint.timeout)
        except requests.Timeout as error:
            raise DeployError(
                f"{self._endpoint.url} gave no answer to {method} {path} within {self._endpoint.timeout:g} s "
                "and may have done it nevertheless; look with `deploy.py status`, then give the command again"
            ) from error
        except requests.exceptions.SSLError as error:
            raise DeployError(
                f"the certificate of {self._endpoint.url} is not trusted; name its authority in "
                "endpoint.ca_certificate"
            ) from error
        except requests.RequestException as error:
            raise DeployError(
                f"nothing answers at {self._endpoint.url}; check endpoint.url (or KF_PIPELINES_ENDPOINT), "
                "and that the port-forward runs"
            ) from error
        return _checked(Answer(answer.status_code, answer.reason, content), method, path, self._endpoint)


class DryRun:
    """Passes questions on to the server, and prints what would change something there."""

    def __init__(self, transport: Transport, say: Callable[[str], None]) -> None:
        self._transport = transport
        self._say = say

    def __call__(
        self, method: str, path: str, query: Mapping[str, Any], body: Any = None, file: str = ""
    ) -> Any:
        """See Transport. What would be made has its kind in brackets for an id."""
        if method == "GET" and "<" in path:
            return {}  # of something that was not made
        if method == "GET":
            return self._transport(method, path, query)
        asked = "".join(f" {key}={value}" for key, value in query.items())
        self._say(f"would send {method} {path}{asked}{f' with {file}' if file else ''}")
        if body is not None:
            self._say(json.dumps(body, indent=2))
        ids = ("pipeline_id", "run_id", "experiment_id", "recurring_run_id")
        return {**(body or {}), **{name: f"<{name}>" for name in ids}}


def from_environment(endpoint: Endpoint, environment: Mapping[str, str]) -> Endpoint:
    """Return the endpoint, with the URL of KF_PIPELINES_ENDPOINT if that is set. Raises SettingsError."""
    url = environment.get("KF_PIPELINES_ENDPOINT")
    try:
        return dataclasses.replace(endpoint, url=url) if url else endpoint
    except ValueError as error:
        raise SettingsError(f"KF_PIPELINES_ENDPOINT: {error}") from error


def credentials(endpoint: Endpoint, environment: Mapping[str, str]) -> Credentials:
    """Return a token or a cookie, from where the endpoint says. Raises SettingsError."""
    headers = {}
    token = environment.get("KF_PIPELINES_TOKEN", "")
    if not token and endpoint.token_file:
        try:
            token = pathlib.Path(endpoint.token_file).read_text().strip()
        except OSError as error:
            raise SettingsError(
                f"endpoint.token_file {endpoint.token_file} cannot be read: {error.strerror}"
            ) from error
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if cookies := environment.get(endpoint.cookies_variable):
        headers["Cookie"] = cookies
    return Credentials(headers)


def _checked(answer: Answer, method: str, path: str, endpoint: Endpoint) -> Any:
    """Return the JSON of a good answer. Raises DeployError."""
    said, found = answer.words(), answer.json()
    where = f"namespace {endpoint.namespace!r}" if endpoint.namespace else "the server's namespace"
    sentences = {
        401: "the server does not accept the token or cookie (401): it is missing or has expired; renew "
        f"KF_PIPELINES_TOKEN, endpoint.token_file or {endpoint.cookies_variable}",
        403: f"you are not allowed to do this in {where} (403): {said}; ask for the role kubeflow-edit there",
        409: f"the name is taken (409): {said}; choose another --name, or delete what has it",
    }
    code = answer.status
    if code in sentences:
        raise DeployError(sentences[code])
    if code in (301, 302, 303, 307, 308):
        raise DeployError(
            f"{endpoint.url} sends to a login page; set {endpoint.cookies_variable} to the cookie of your "
            "session, or KF_PIPELINES_TOKEN"
        )
    if code == 404 and found is not None:
        raise NotFound(f"the server has no {path} (404): {said}")
    if code >= 500:
        raise DeployError(
            f"the server failed at {method} {path} ({code}): {said}; give the same command again"
        )
    if found is None:
        raise DeployError(
            f"{endpoint.url} is not the API of Kubeflow Pipelines (it answered {code}, and not in JSON); "
            "check endpoint.url, which ends before /apis"
        )
    if code >= 400:
        raise DeployError(f"the server refuses {method} {path} ({code}): {said}")
    return found


def needed(item: Any, key: str) -> str:
    """Return what an answer has to hold under a key. Raises DeployError."""
    found = item.get(key) if isinstance(item, Mapping) else None
    if not isinstance(found, str) or not found:
        raise DeployError(
            f"an answer of the server has no {key}: it is not the API of Kubeflow Pipelines 2, or something "
            "between here and there cuts its answers; check endpoint.url"
        )
    return found


def listed(page: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """Return the items of a page of a list. Raises DeployError."""
    found = page.get(key) or []
    if not isinstance(found, list) or not all(isinstance(item, Mapping) for item in found):
        raise DeployError(f"the server's answer holds no list of {key}; check endpoint.url")
    return found


def shown(text: Any) -> str:
    """Return a text of the server on one line, without what a terminal would obey, and not endlessly long."""
    words = " ".join("".join(c if c.isprintable() else " " for c in str(text)[: 4 * MOST_WORDS]).split())
    return words if len(words) <= MOST_WORDS else f"{words[:MOST_WORDS]}..."


def _read(answer: requests.Response, until: float) -> bytes:
    """Return the body of an answer. Raises DeployError beyond a size, and requests.Timeout after `until`."""
    found = bytearray()
    for chunk in answer.iter_content(65_536):
        found += chunk
        if len(found) > MOST_BYTES:
            answer.close()
            raise DeployError(f"the server's answer has more than {MOST_BYTES:,} bytes; check endpoint.url")
        if time.monotonic() > until:
            answer.close()
            raise requests.Timeout
    return bytes(found)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[dict[str, Any] | None]:
    """The multipart field of a file to upload, open for as long as it is sent; None without a path."""
    if not path:
        yield None
        return
    with open(path, "rb") as file:
        yield {"uploadfile": (os.path.basename(path), file, "application/yaml")}
