"""A Kubernetes API with JobSet's controller, of which each pod is a process on this machine."""

import concurrent.futures
import contextlib
import datetime
import http.server
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from typing import Any

from pipeline.execution.jobset import OF_JOBSET
from pipeline.execution.workers import INDEX

REPOSITORY = pathlib.Path(__file__).parents[2]
GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL."""
NAMESPACE, TOKEN = "team", "the token of the pod"


class Worker:
    """A pod: the process, its log with the time of each line, and how Kubernetes shows it."""

    def __init__(self, name: str, index: int, container: dict[str, Any], hosts: dict[str, str]) -> None:
        self.name, self.index = name, index
        values: dict[str, str] = {}
        for variable in container["env"]:
            text = variable.get("value", str(index))  # the only reference is that to the number
            values[variable["name"]] = re.sub(r"\$\((\w+)\)", lambda match: values[match[1]], text)
        for host, port in hosts.items():
            values["TF_CONFIG"] = values["TF_CONFIG"].replace(host, port)
        self.environment = values
        python = os.path.dirname(sys.executable)
        self.process = subprocess.Popen(
            [*container["command"], *(word.replace("$$", "$") for word in container["args"])],
            env={"PATH": f"{python}:/usr/bin:/bin", "HOME": "/nonexistent", **values},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=REPOSITORY,
        )  # fmt: skip
        self.lines: list[tuple[str, str]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            stamp = datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "000Z")
            self.lines.append((stamp, line.rstrip("\n")))

    def shown(self, jobset: str) -> dict[str, Any]:
        code = self.process.poll()
        phase = "Running" if code is None else "Failed" if code else "Succeeded"
        state: dict[str, Any] = {"running": {}}
        if code is not None:
            self._reader.join(5)
            end = "\n".join(text for _, text in self.lines)[-2048:]
            at = self.lines[-1][0] if self.lines else ""
            ended = {"exitCode": code if code >= 0 else 128 - code, "reason": "Error", "finishedAt": at}
            state = {"terminated": {**ended, "message": end}}
        marks = {"labels": {OF_JOBSET: jobset}, "annotations": {INDEX: str(self.index)}}
        return {
            "metadata": {"name": self.name, **marks},
            "status": {"phase": phase, "containerStatuses": [{"name": "main", "state": state}]},
        }  # fmt: skip

    def end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(GRACE)


class Kubernetes:
    """The state behind the server: JobSets by name, their workers, and every request."""

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []
        self.jobsets: dict[str, dict[str, Any]] = {}
        self.workers: dict[str, list[Worker]] = {}
        self.requests: list[str] = []

    def create(self, item: dict[str, Any]) -> tuple[int, Any]:
        name = item["metadata"]["name"]
        if name in self.jobsets:
            return 409, {"message": f'jobsets "{name}" already exists'}
        self.made.append(item)
        self.jobsets[name] = {**item, "status": {}}
        [group] = item["spec"]["replicatedJobs"]
        job = group["template"]["spec"]
        [container] = job["template"]["spec"]["containers"]
        names = [f"{name}-{group['name']}-0-{index}" for index in range(job["completions"])]
        with contextlib.ExitStack() as stack:
            free = [stack.enter_context(socket.socket()) for _ in names]
            for each in free:
                each.bind(("localhost", 0))
            ports = [f"localhost:{each.getsockname()[1]}" for each in free]
        hosts = {f"{pod}.{name}:2222": port for pod, port in zip(names, ports, strict=True)}
        self.workers[name] = [
            Worker(f"{pod}-x{index}", index, container, hosts) for index, pod in enumerate(names)
        ]
        return 201, item

    def jobset(self, name: str) -> tuple[int, Any]:
        if name not in self.jobsets:
            return 404, {"message": f'jobsets.jobset.x-k8s.io "{name}" not found'}
        item = self.jobsets[name]
        codes = [worker.process.poll() for worker in self.workers[name]]
        ended = "Failed" if any(codes) else "Completed" if codes and None not in codes else ""
        if ended and not item["status"]:
            item["status"] = {"conditions": [{"type": ended, "status": "True", "message": "jobset ended"}]}
            for worker in self.workers[name]:
                if worker.process.poll() is None:
                    worker.process.kill()
        return 200, item

    def delete(self, name: str) -> tuple[int, Any]:
        """Begin to remove a JobSet, which is there until its workers have ended."""
        if name not in self.jobsets:
            return 404, {"message": "not found"}
        if "deletionTimestamp" not in self.jobsets[name]["metadata"]:
            self.jobsets[name]["metadata"]["deletionTimestamp"] = "now"
            threading.Thread(target=self._remove, args=(name,), daemon=True).start()
        return 200, {}

    def _remove(self, name: str) -> None:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(Worker.end, self.workers[name]))
        del self.workers[name]
        del self.jobsets[name]

    def log(self, pod: str, after: str) -> tuple[int, Any]:
        for workers in self.workers.values():
            for worker in workers:
                if worker.name == pod:
                    whole = after.partition(".")[0]  # Kubernetes reads sinceTime by the second
                    return 200, "".join(f"{at} {text}\n" for at, text in worker.lines if at >= whole)
        return 404, {"message": "not found"}


@contextlib.contextmanager
def serving(folder: pathlib.Path) -> Iterator[tuple[Kubernetes, dict[str, str]]]:
    """The state, and the environment of a pod; the folder becomes that of its service account."""
    state = Kubernetes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do(self) -> None:
            url = urllib.parse.urlsplit(self.path)
            state.requests.append(f"{self.command} {url.path}")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, answer = self.answer(url.path, urllib.parse.parse_qs(url.query), json.loads(body or "{}"))
            content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            with contextlib.suppress(OSError):  # whoever asked may have been stopped
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def answer(self, path: str, query: dict[str, list[str]], item: dict[str, Any]) -> tuple[int, Any]:
            if self.headers["Authorization"] != f"Bearer {TOKEN}":
                return 401, {"message": "Unauthorized"}
            of_sets = f"/apis/jobset.x-k8s.io/v1alpha2/namespaces/{NAMESPACE}/jobsets"
            pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
            if (self.command, path) == ("POST", of_sets):
                return state.create(item)
            if path.startswith(f"{of_sets}/") and self.command in ("GET", "DELETE"):
                name = path.rpartition("/")[2]
                return state.jobset(name) if self.command == "GET" else state.delete(name)
            if (self.command, path) == ("GET", pods):
                name = query["labelSelector"][0].removeprefix(f"{OF_JOBSET}=")
                return 200, {"items": [worker.shown(name) for worker in state.workers.get(name, ())]}
            if match := re.fullmatch(rf"{pods}/([^/]+)/log", path):
                return state.log(match[1], query.get("sinceTime", [""])[0])
            return 404, {"message": "the server could not find the requested resource"}

        do_GET = do_POST = do_DELETE = do  # noqa: N815 names that http.server looks for

        def log_message(self, *given: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    folder.mkdir()
    (folder / "namespace").write_text(NAMESPACE)
    (folder / "token").write_text(f"{TOKEN}\n")
    key = folder.parent / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key,
         "-out", folder / "ca.crt", "-days", "1", "-subj", "/CN=kubernetes",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.crt", key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    host, port = server.server_address[:2]
    environment = {
        "KUBERNETES_SERVICE_HOST": str(host), "KUBERNETES_SERVICE_PORT": str(port),
        "KFP_POD_NAME": "latentline-x", "KFP_POD_UID": "0-1-2",
    }  # fmt: skip
    try:
        yield state, environment
    finally:
        for workers in state.workers.values():
            for worker in workers:
                if worker.process.poll() is None:
                    worker.process.send_signal(signal.SIGKILL)
        server.shutdown()
        server.server_close()
        thread.join()
