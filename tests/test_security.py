"""What docs/SECURITY.md promises, as tests."""

import ast
import hashlib
import os
import pathlib
import re
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
import yaml

from components.ingest import sources
from pipeline.config.notify import Notify
from pipeline.config.settings import Settings
from pipeline.runs import hooks

ROOT = pathlib.Path(__file__).parent.parent
PACKAGES = ("components", "kubeflow", "pipeline", "requirements", "schemas", "trainer")
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
RUNS_TEXT = {"eval", "exec", "compile", "__import__"}
SECRET = "hunter2-and-nobody-may-read-it"


def modules() -> list[pathlib.Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def named(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


def calls(path: pathlib.Path) -> Iterator[tuple[str, ast.Call]]:
    """Dotted name of what is called, and the call."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def given(call: ast.Call, keyword: str) -> str:
    """The argument of that name as it is written, or nothing."""
    return next((ast.unparse(k.value) for k in call.keywords if k.arg == keyword), "")


@pytest.mark.parametrize("path", modules(), ids=named)
def test_nothing_is_unpickled_and_no_text_is_run(path: pathlib.Path) -> None:
    tree = ast.parse(path.read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    assert not {name.split(".")[0] for name in imported} & PICKLES
    for name, call in calls(path):
        assert name not in RUNS_TEXT
        assert given(call, "allow_pickle") in ("", "False"), f"line {call.lineno}"
        if name.startswith("yaml.") and "load" in name:
            assert name in ("yaml.safe_load", "yaml.safe_load_all"), f"line {call.lineno}"


@pytest.mark.parametrize("path", modules(), ids=named)
def test_no_shell_is_started_and_no_certificate_goes_unchecked(path: pathlib.Path) -> None:
    for name, call in calls(path):
        assert name not in ("os.system", "os.popen", "subprocess.getoutput"), f"line {call.lineno}"
        assert given(call, "shell") in ("", "False"), f"line {call.lineno}"
        assert given(call, "verify") in ("", "True"), f"line {call.lineno}"


def test_the_check_sees_what_it_is_for(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "evil.py"
    path.write_text("import numpy as np\nnp.load('x', allow_pickle=True)\n")
    [(name, call)] = calls(path)
    assert (name, given(call, "allow_pickle")) == ("np.load", "True")


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


def test_downloads_come_by_https_and_have_a_digest() -> None:
    assert all(mirror.startswith("https://") for mirror in sources.MIRRORS)
    assert all(re.fullmatch(r"[0-9a-f]{64}", published.sha256) for published in sources.PUBLISHED)


def test_every_locked_package_has_a_digest() -> None:
    lock = (ROOT / "requirements" / "lock.txt").read_text()
    blocks = re.split(r"\n(?=[^\s#])", lock.strip())
    pins = [block for block in blocks if "==" in block]
    assert len(pins) > 100
    assert all("--hash=sha256:" in block for block in pins)
    assert "--require-hashes" in (ROOT / "requirements" / "install.py").read_text()


def test_the_image_ends_as_a_user_that_is_not_root() -> None:
    lines = (ROOT / "kubeflow" / "Dockerfile").read_text().splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users
    assert not any(user.split(":")[0] in ("0", "root") for user in users)


def test_the_pages_of_the_report_escape_by_default() -> None:
    """What a page shows from outside is tried in tests/components/reporting/test_report_page.py."""
    templates = ROOT / "components" / "reporting" / "templates"
    for template in templates.glob("*.j2"):
        text = template.read_text()
        assert "autoescape false" not in text
        assert set(re.findall(r"\{\{[^}]*\|\s*safe[^}]*\}\}", text)) == set(), template


def test_a_secret_s_value_is_in_no_compiled_pipeline(tmp_path: pathlib.Path) -> None:
    output = tmp_path / "pipeline.yaml"
    cluster = ROOT / "kubeflow" / "cluster.yaml"
    values = yaml.safe_load(cluster.read_text()) | {
        "secrets": {"CLOUD_KEY": {"name": "cloud", "key": "token"}}
    }
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(values))
    done = subprocess.run(
        [sys.executable, "kubeflow/compile.py", "--output", str(output), "--variants", "mlp",
         "--cluster", str(tmp_path / "cluster.yaml")],
        cwd=ROOT, env={**os.environ, "LATENTLINE_METADATA_PASSWORD": SECRET, "CLOUD_KEY": SECRET},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert SECRET not in output.read_text() + done.stdout + done.stderr
    assert "CLOUD_KEY" in output.read_text()


@pytest.mark.parametrize("log_format", ["plain", "json"])
def test_a_password_is_in_no_log_of_a_node_that_cannot_connect(log_format: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        names = {"HOST": "127.0.0.1", "PORT": str(port), "DATABASE": "d", "USER": "u", "PASSWORD": SECRET}
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.node", "--init-metadata", "--verbose",
             "--log-format", log_format],
            cwd=ROOT, env={**os.environ, **{f"LATENTLINE_METADATA_{k}": v for k, v in names.items()}},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 4
    assert f"127.0.0.1:{port}" in done.stderr
    assert SECRET not in done.stdout + done.stderr


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


def test_a_webhook_that_fails_is_told_without_what_its_address_holds() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/{SECRET}?token={SECRET}"
        event = {"event": "failure", "text": "x", "run": {}}
        [problem] = hooks.fire(Notify(webhook=address), [event], {}, wait=lambda seconds: None)
    assert "127.0.0.1" in problem
    assert SECRET not in problem
