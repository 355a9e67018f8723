"""A tab of a headless Chromium, and report pages to open in it."""

import importlib.util
import pathlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from components.reporting import failure_page


def beside(path: pathlib.Path) -> ModuleType:
    """The module in a file that no package holds."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WHY = (
    "DriftGate failed: label of the train split has drifted from the last accepted data: largest difference "
    "between shares of a class 0.163, limit 0.05. Look at the data; accept it with --drift warn, or remove it"
)
NIGHT = failure_page.View(
    title="The run of 2026-11-25 03:00 failed",
    errors=[WHY],
    outcomes=[(name, "skipped", WHY) for name in ("cvae", "a_variant_with_quite_a_long_name", "mlp")],
    drift=[WHY.partition(": ")[2]],
    spans=["span-2026-11-25", "span-2026-11-24"],
    log="/srv/latentline/logs/run-20261125-030000.log",
    tail=[
        f"2026-11-25 03:00:{second:02} INFO absl: Running launcher for node DriftGate" for second in range(40)
    ],
)

chromium = beside(pathlib.Path(__file__).with_name("chromium.py"))
reports = beside(pathlib.Path(__file__).parent.parent / "components" / "reporting" / "conftest.py")
shown_images, subject, about, written = (
    reports.shown_images, reports.subject, reports.about, reports.written,
)  # fmt: skip


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The tab; the test is skipped where there is no browser."""
    executable = chromium.find()
    if executable is None:
        pytest.skip("no Chromium is installed; on Debian: apt-get install chromium")
    with chromium.page(executable, tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, subject: Any, written: Any) -> dict[str, pathlib.Path]:
    """Pages of one variant, of four, of sixteen, of none, and of a night that failed without figures."""
    row, gain, status = reports.row, reports.gain, reports.Status
    refused = {"status": status.REFUSED, "pushed_version": None}
    long = "a_variant_with_quite_a_long_name"
    four = [
        row("cvae", value=-155.9, gain=gain("elbo", 4.1, 0.4), steps=900, train_seconds=12.0),
        row("slow", value=-101.25, train_seconds=3_700.0, steps=40_000, gain=gain("elbo", -0.1, 0.4)),
        row(long, value=-230.0, why_not="elbo -230 is below the floor -205", train_seconds=5.0, **refused),
        row(
            "mlp", "accuracy", 0.97, 0.004, train_seconds=2.5, gain=gain("accuracy", -0.02, 0.004), **refused
        ),
    ]
    many = [row(f"vae_{i}", value=-100.0 - 7 * i, gain=gain("elbo", i - 4.0, 0.5)) for i in range(9)]
    many += [row(f"mlp_{i}", "accuracy", 0.98 - 0.09 * i, 0.004, train_seconds=i + 1.0) for i in range(7)]
    failed = [reports.Row("iwae", status.FAILED, why_not="the loss became non-finite at step 1 " * 3)]
    folder = tmp_path_factory.mktemp("pages")
    found = {}
    for name, rows, lost in (("1", four[:1], []), ("4", four, failed), ("16", many, []), ("0", [], failed)):
        (folder / name).mkdir()
        made = [subject(entry, latent=2 + 3 * (place % 2)) for place, entry in enumerate(rows)]
        found[name] = written(folder / name, made, lost)
    found["failed"] = folder / "failed.html"
    found["failed"].write_text(failure_page.render(NIGHT, last="runs/20261124-030000/index.html"))
    return found
