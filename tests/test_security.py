"""What docs/SECURITY.md promises, as tests."""

import hashlib
import pathlib
import socket
import subprocess
import sys
import zipfile

import pytest
import yaml
from tallies import Section
from warm import Warm

from pipeline.config.notify import Notify
from pipeline.config.settings import Settings
from pipeline.runs import hooks

ROOT = pathlib.Path(__file__).parent.parent
PACKAGES = ("components", "kubeflow", "pipeline", "requirements", "schemas", "trainer")
RUFF = pathlib.Path(sys.executable).with_name("ruff")
SECRET = "hunter2-and-nobody-may-read-it"


FORBIDDEN = {
    "import pickle": "TID251",
    "from joblib import load": "TID251",
    "import shelve": "TID251",
    "import marshal": "TID251",
    "import os\nos.system('ls')": "S605",
    "import os\nos.popen('ls')": "S605",
    "import subprocess\nsubprocess.getoutput('ls')": "S605",
    "import subprocess\nsubprocess.run('ls', shell=True)": "S602",
    "import subprocess\nsubprocess.Popen('ls', shell=True)": "S602",
    "import requests\nrequests.get('https://example.org', verify=False, timeout=1)": "S501",
    "import yaml\nyaml.load(open('x'), Loader=yaml.Loader)": "S506",
    "eval('1')": "S307",
    "exec('1')": "S102",
}
"""Lines that must not be written -> the rule of `make lint` that refuses them."""


@pytest.mark.parametrize("package", PACKAGES)
def test_lint_refuses_what_runs_text_starts_a_shell_or_trusts_anybody(package: str) -> None:
    for line, rule in FORBIDDEN.items():
        done = subprocess.run(
            [RUFF, "check", "--no-cache", "--output-format=concise", "--select", rule,
             "--stdin-filename", f"{package}/new.py", "-"],
            input=f"{line}\n", cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 1, line
        assert rule in done.stdout, line


def test_arrays_of_objects_are_refused_where_checkpoints_are_read(tmp_path: pathlib.Path) -> None:
    """A checkpoint with a right digest whose content is a pickle: NumPy refuses it, and nothing is run."""
    import io

    import numpy as np

    from trainer.loop.checkpoints import Checkpoints

    content = io.BytesIO()
    np.savez(content, weights=np.array([{"a": 1}], dtype=object))
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    (tmp_path / f"0000000001-{digest}.npz").write_bytes(content.getvalue())
    with pytest.raises(ValueError, match="allow_pickle=False"):
        Checkpoints(str(tmp_path)).latest()


@pytest.fixture
def wheel(tmp_path: pathlib.Path) -> pathlib.Path:
    """A package of one empty module, where no index is asked for it."""
    path = tmp_path / "probe-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("probe.py", "")
        archive.writestr("probe-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: probe\nVersion: 1.0\n")
        tags = "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr("probe-1.0.dist-info/WHEEL", tags)
        archive.writestr("probe-1.0.dist-info/RECORD", "")
    return path


@pytest.mark.parametrize("installer", ["PIP", "UV"])
def test_only_a_package_with_its_digest_is_installed(
    installer: str, wheel: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    right, wrong = hashlib.sha256(wheel.read_bytes()).hexdigest(), "0" * 64
    for number, (pin, installed) in enumerate(
        [("probe==1.0", False), (f"probe==1.0 --hash=sha256:{wrong}", False),
         (f"probe==1.0 --hash=sha256:{right}", True)]
    ):  # fmt: skip
        target = tmp_path / str(number)
        options = ["--no-index", f"--find-links={tmp_path}", f"--target={target}"]
        script = f"import install; install.install([*install.{installer}, *{options!r}], [{pin!r}])"
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT / "requirements",
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode == 0) == (target / "probe.py").exists() == installed, done.stderr
        assert installed or "hash" in done.stderr


def test_the_image_ends_as_a_user_that_is_not_root() -> None:
    lines = (ROOT / "kubeflow" / "Dockerfile").read_text().splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users
    assert not any(user.split(":")[0] in ("0", "root") for user in users)


@pytest.mark.section(Section.SECRETS)
def test_a_secret_s_value_is_in_no_compiled_pipeline(tmp_path: pathlib.Path, warm: Warm) -> None:
    output = tmp_path / "pipeline.yaml"
    cluster = ROOT / "kubeflow" / "cluster.yaml"
    values = yaml.safe_load(cluster.read_text()) | {
        "secrets": {"CLOUD_KEY": {"name": "cloud", "key": "token"}}
    }
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(values))
    done = warm.start(
        ["--output", output, "--variants", "mlp", "--cluster", tmp_path / "cluster.yaml"],
        {"LATENTLINE_METADATA_PASSWORD": SECRET, "CLOUD_KEY": SECRET},
        module="pipeline.kubeflow.compile",
    ).fine()
    assert SECRET not in output.read_text() + done.out + done.err
    assert "CLOUD_KEY" in output.read_text()


@pytest.mark.parametrize("log_format", ["plain", "json"])
@pytest.mark.section(Section.SECRETS)
def test_a_password_is_in_no_log_of_a_node_that_cannot_connect(log_format: str, warm: Warm) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        names = {"HOST": "127.0.0.1", "PORT": str(port), "DATABASE": "d", "USER": "u", "PASSWORD": SECRET}
        done = warm.start(
            ["--init-metadata", "--verbose", "--log-format", log_format],
            {f"LATENTLINE_METADATA_{name}": value for name, value in names.items()},
            module="pipeline.execution.node",
        ).wait()
    assert done.code == 4
    assert f"127.0.0.1:{port}" in done.err
    assert SECRET not in done.out + done.err


@pytest.mark.section(Section.SECRETS)
def test_what_settings_may_hold_of_secrets_is_in_no_execution_property(tmp_path: pathlib.Path) -> None:
    """TFX writes execution properties to the metadata store and to logs; all come from the compiled IR."""
    from tfx.dsl.compiler import compiler

    from components.ingest.sources import Dataset
    from pipeline.pipeline import create_pipeline

    settings = Settings(
        variants=("mlp",),
        home=str(tmp_path),
        notify=Notify(webhook=f"https://hooks.example/{SECRET}", on_failure=f"tell {SECRET}"),
    )
    compiled = compiler.Compiler().compile(create_pipeline(settings, Dataset("data", str(tmp_path))))
    assert "mlp" in str(compiled)
    assert SECRET not in str(compiled)


@pytest.mark.section(Section.SECRETS)
def test_a_webhook_that_fails_is_told_without_what_its_address_holds() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/{SECRET}?token={SECRET}"
        event = {"event": "failure", "text": "x", "run": {}}
        [problem] = hooks.fire(Notify(webhook=address), [event], {}, wait=lambda seconds: None)
    assert "127.0.0.1" in problem
    assert SECRET not in problem
