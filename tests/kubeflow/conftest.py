"""What the tests of the cluster scripts share: the scripts' modules, a cluster file, a MariaDB server."""

import os
import pathlib
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from kubeflow_server import Command, Kubeflow, serving

from pipeline.kubeflow import compile
from pipeline.kubeflow import deploy as deploy_module

REPOSITORY = pathlib.Path(__file__).parents[2]
PASSWORD = "a password with spaces, 'quotes' and $dollars"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mnist-log", metavar="FILE", help="run the tasks on MNIST, too; their logs go to FILE")


@pytest.fixture(scope="session")
def compile_script() -> Any:
    return compile


@pytest.fixture(scope="session")
def deploy_script() -> Any:
    return deploy_module


@pytest.fixture
def cluster_values() -> dict[str, Any]:
    """The shipped cluster.yaml, as YAML has it."""
    return yaml.safe_load((REPOSITORY / "kubeflow" / "cluster.yaml").read_text())


@pytest.fixture
def write_cluster(tmp_path: pathlib.Path) -> Callable[[dict[str, Any]], str]:
    def write(values: dict[str, Any]) -> str:
        path = tmp_path / "cluster.yaml"
        path.write_text(yaml.safe_dump(values))
        return str(path)

    return write


@pytest.fixture
def kubeflow() -> Iterator[Kubeflow]:
    """A server that has to see no request that Kubeflow would refuse."""
    with serving() as state:
        yield state
    assert not state.violations


@pytest.fixture
def deploy(
    kubeflow: Kubeflow,
    deploy_script: Any,
    cluster_values: dict[str, Any],
    write_cluster: Callable[[dict[str, Any]], str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Command:
    for variable in ("KF_PIPELINES_ENDPOINT", "KF_PIPELINES_TOKEN", "KF_PIPELINES_COOKIES"):
        monkeypatch.delenv(variable, raising=False)
    cluster_values["endpoint"] = {"url": kubeflow.url, "timeout": 4}  # more than a busy machine needs
    return Command(deploy_script.main, write_cluster(cluster_values), capsys)


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A server of our own: host, port, database, user and password. Skips where MariaDB is not installed."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    server, installer = (shutil.which(name, path=path) for name in ("mariadbd", "mariadb-install-db"))
    if not server or not installer:
        pytest.skip("no MariaDB here; apt-get install mariadb-server-core mariadb-client-core brings it")
    folder = tmp_path_factory.mktemp("mariadb")
    account = [f"--user={os.environ.get('USER') or 'root'}"] if os.geteuid() == 0 else []
    data = ["--no-defaults", f"--datadir={folder / 'data'}", *account]
    subprocess.run(
        [installer, *data, "--auth-root-authentication-method=normal", "--skip-test-db"],
        check=True, capture_output=True,
    )  # fmt: skip
    sql = folder / "init.sql"
    quoted = PASSWORD.replace("'", "''")
    sql.write_text(
        f"CREATE DATABASE latentline;\nCREATE USER latentline@'127.0.0.1' IDENTIFIED BY '{quoted}';\n"
        "GRANT ALL ON latentline.* TO latentline@'127.0.0.1';\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            [server, *data, f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder / 'socket'}",
             f"--pid-file={folder / 'pid'}", f"--init-file={sql}", "--skip-name-resolve"],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        _wait_for(port, process, folder / "log")
        yield {
            "host": "127.0.0.1", "port": port, "database": "latentline", "user": "latentline",
            "password": PASSWORD,
        }  # fmt: skip
    finally:
        process.terminate()
        process.wait(60)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: pathlib.Path) -> None:
    for _ in range(300):
        assert process.poll() is None, log.read_text()
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(log.read_text())
