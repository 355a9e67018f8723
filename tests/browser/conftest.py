"""A tab of a headless Chromium for the tests that need one."""

import importlib.util
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

spec = importlib.util.spec_from_file_location("chromium", pathlib.Path(__file__).with_name("chromium.py"))
assert spec
assert spec.loader
chromium = importlib.util.module_from_spec(spec)
spec.loader.exec_module(chromium)


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The tab; the test is skipped where there is no browser."""
    executable = chromium.find()
    if executable is None:
        pytest.skip("no Chromium is installed; on Debian: apt-get install chromium")
    with chromium.page(executable, tmp_path_factory.mktemp("profile")) as page:
        yield page
