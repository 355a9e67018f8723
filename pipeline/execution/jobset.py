"""Kubernetes' API, as far as a task needs it to run a JobSet: create it, follow its pods, delete it.

A task asks with the service account of its own pod. JobSet is `jobset.x-k8s.io/v1alpha2`; the Role that a
service account needs is in kubeflow/manifests/service-account.yaml.
"""

import dataclasses
import os
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import requests

API_VERSION = "jobset.x-k8s.io/v1alpha2"
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where Kubernetes puts the token, the authority and the namespace of a pod's service account."""
OF_JOBSET = "jobset.sigs.k8s.io/jobset-name"
"""Label that JobSet gives to the pods of a set."""
PORT = 2222
"""Where the workers of a training meet."""
ANSWER = 30.0
"""Seconds that the API may take for an answer."""
PATIENCE = 600.0
"""Seconds for which the API may be out of reach while workers train; they go on meanwhile."""
PAUSE = 5.0
"""Seconds between two attempts to reach it."""
PASSING = (429, 500, 502, 503, 504)
"""Answers that pass by themselves."""


class Refused(RuntimeError):
    """The API refuses a request, or cannot be reached; the message says why and what to do."""


class Line(NamedTuple):
    """A line of a pod's log: when it was written, as Kubernetes says it, and its text."""

    stamp: str
    text: str

    @property
    def order(self) -> tuple[str, str]:
        """Return what lines of one pod are sorted by: seconds, then the digits of their fraction."""
        whole, _, fraction = self.stamp.removesuffix("Z").partition(".")
        return whole, fraction.ljust(9, "0")


@dataclasses.dataclass(frozen=True)
class Api:
    """The API of the cluster that this pod runs in.

    Attributes:
      url: of the API server.
      namespace: of the pod, where its JobSets are.
      account: folder of the service account.
      pause: waits for so many seconds between two attempts.
      clock: seconds since any fixed time.
    """

    url: str
    namespace: str
    account: pathlib.Path
    pause: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    session: requests.Session = dataclasses.field(default_factory=requests.Session)

    @classmethod
    def of_pod(cls, environment: Mapping[str, str], account: str = "") -> "Api":
        """Return the API that the environment of a pod names. Raises Refused outside of a pod."""
        folder = pathlib.Path(account or SERVICE_ACCOUNT)
        host, port = (environment.get(f"KUBERNETES_SERVICE_{name}") for name in ("HOST", "PORT"))
        try:
            namespace = (folder / "namespace").read_text().strip()
        except OSError as error:
            raise Refused(
                f"several workers need the service account of a pod, and {folder} cannot be read "
                f"({error.strerror}); run this task on a cluster, with a token in its pod"
            ) from error
        if not host or not port:
            raise Refused(
                "several workers need a cluster, and the environment names no KUBERNETES_SERVICE_HOST"
            )
        bracketed = f"[{host}]" if ":" in host else host
        return cls(f"https://{bracketed}:{port}", namespace, folder)

    def create(self, item: Mapping[str, Any]) -> None:
        """Create a JobSet. Raises Refused."""
        self._ask("POST", self._jobsets(), json=item)

    def jobset(self, name: str) -> dict[str, Any] | None:
        """Return the JobSet of that name; None if there is none. Raises Refused."""
        answer = self._ask("GET", self._jobsets(name), patience=PATIENCE, gone=True)
        return None if answer is None else dict(answer.json())

    def delete(self, name: str, patience: float = PATIENCE, answer: float = ANSWER) -> None:
        """Ask for the end of a JobSet and of its pods, before which it does not disappear. Raises Refused.

        patience, answer: seconds to go on asking, and to wait for an answer.
        """
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground"}
        self._ask("DELETE", self._jobsets(name), json=body, patience=patience, gone=True, timeout=answer)

    def pods(self, name: str) -> list[dict[str, Any]]:
        """Return the pods of a JobSet. Raises Refused."""
        chosen = {"labelSelector": f"{OF_JOBSET}={name}"}
        answer = self._ask("GET", self._pods(), params=chosen, patience=PATIENCE)
        return [] if answer is None else list(answer.json()["items"])

    def lines(self, pod: str, after: Line | None = None) -> list[Line]:
        """Return the lines of a pod's log, or those after a line; none if it has no log. Raises Refused."""
        chosen = {"container": "main", "timestamps": "true", **({"sinceTime": after.stamp} if after else {})}
        answer = self._ask("GET", self._pods(f"/{pod}/log"), params=chosen, patience=PATIENCE, gone=True)
        if answer is None:
            return []
        text = answer.content.decode(errors="backslashreplace")
        found = [Line(*line.partition(" ")[::2]) for line in text.split("\n") if line]
        return [line for line in found if not after or line.order > after.order]

    def _jobsets(self, name: str = "") -> str:
        return f"/apis/{API_VERSION}/namespaces/{self.namespace}/jobsets" + (name and f"/{name}")

    def _pods(self, rest: str = "") -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods{rest}"

    def _ask(
        self,
        method: str,
        path: str,
        patience: float = 0.0,
        gone: bool = False,
        timeout: float = ANSWER,
        **request: Any,
    ) -> requests.Response | None:
        """Return the answer; with `gone` None where the object is not there, or not ready for the question.

        patience: seconds for which an API that cannot be reached is asked again. Raises Refused.
        """
        until = self.clock() + patience
        while True:
            try:
                answer = self.session.request(
                    method, f"{self.url}{path}", timeout=timeout, verify=str(self.account / "ca.crt"),
                    headers={"Authorization": f"Bearer {self._token()}"}, **request,
                )  # fmt: skip
            except (requests.RequestException, OSError) as error:
                problem = f"Kubernetes' API at {self.url} cannot be reached ({type(error).__name__}: {error})"
            else:
                if answer.ok:
                    return answer
                if gone and (
                    answer.status_code == 404 or (answer.status_code == 400 and path.endswith("/log"))
                ):
                    return None
                problem = self._refusal(method, answer)
                if answer.status_code not in PASSING:
                    raise Refused(problem)
            if self.clock() >= until:
                raise Refused(" ".join(problem.split()))
            self.pause(PAUSE)

    def _token(self) -> str:
        """Return the token, which Kubernetes replaces about every hour."""
        return (self.account / "token").read_text().strip()

    def _refusal(self, method: str, answer: requests.Response) -> str:
        """Return what was refused, why, and what to do about it."""
        try:
            said = str(answer.json()["message"])
        except (ValueError, KeyError, TypeError):
            said = answer.text[:200]
        advice = {
            401: "the token of the pod's service account is not accepted",
            403: "apply kubeflow/manifests, whose Role allows it, or bind a Role like it to service_account",
            404: "install JobSet in the cluster (docs/KUBEFLOW.md, Several workers)",
        }.get(answer.status_code, "see the message")
        asked = f"Kubernetes refuses {method} of jobsets or pods in {self.namespace}"
        return f"{asked} ({answer.status_code}: {' '.join(said.split())}); {advice}"


def in_pod(account: str = "") -> Api:
    """Return the API of the cluster that this process runs in. Raises Refused."""
    return Api.of_pod(os.environ, account)
