"""The two ways in which a pipeline runs: on one machine, and node by node as containers do."""

import contextlib
import io
import logging
import os
import pathlib
import signal
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from tfx.dsl.compiler import compiler
from tfx.orchestration.pipeline import Pipeline

from pipeline.config.errors import RunFailed
from pipeline.dag import ir
from pipeline.execution import node
from pipeline.execution.local import LocalRunner
from pipeline.home.layout import Home

WAYS = ("local", "node")


class Night(NamedTuple):
    """How a run ended: its exit code, and what a user reads."""

    code: int
    words: str


class Way:
    """Runs pipelines in one home, in this process, as `latentline run` or `python -m pipeline.node` does."""

    def __init__(self, name: str, folder: pathlib.Path) -> None:
        self.name, self.home, self.runs = name, Home(folder / "home"), 0
        self.home.folder.mkdir()

    def run(self, pipeline: Pipeline) -> Night:
        """Run a pipeline whose root and metadata are the home's."""
        self.runs += 1
        return self._on_one_machine(pipeline) if self.name == "local" else self._in_containers(pipeline)

    def _on_one_machine(self, pipeline: Pipeline) -> Night:
        said: list[str] = []
        try:
            LocalRunner(said.append).run(pipeline)
        except RunFailed as error:
            return Night(error.exit_code, "\n".join([*said, str(error)]))
        return Night(0, "\n".join(said))

    def _in_containers(self, pipeline: Pipeline) -> Night:
        compiled = compiler.Compiler().compile(pipeline)
        root = str(self.home.artifacts)
        names = ",".join(wrapped.pipeline_node.node_info.id for wrapped in compiled.nodes)
        arguments = ["--nodes", names, "--ir-sha256", ir.write(root, compiled)]
        arguments += ["--run-id", f"run-{self.runs}", "--tfx-root", root]
        with _as_it_was(), contextlib.redirect_stderr(io.StringIO()) as written:
            os.environ["LATENTLINE_METADATA_SQLITE"] = str(self.home.database)
            with pytest.raises(SystemExit) as ended:
                node.main(arguments)
        assert isinstance(ended.value.code, int)
        return Night(ended.value.code, written.getvalue())


@contextlib.contextmanager
def _as_it_was() -> Iterator[None]:
    """Leave logging, the handler of SIGTERM and the environment as they were."""
    handlers, level, environment = logging.root.handlers[:], logging.root.level, dict(os.environ)
    stopped = signal.getsignal(signal.SIGTERM)
    with warnings.catch_warnings():
        try:
            yield
        finally:
            logging.captureWarnings(False)
            signal.signal(signal.SIGTERM, stopped)
            logging.root.handlers[:], logging.root.level = handlers, level
            os.environ.clear()
            os.environ.update(environment)
