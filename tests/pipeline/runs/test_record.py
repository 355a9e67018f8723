import logging
import os
import pathlib
import signal
from typing import Any

import pytest

from pipeline.config.errors import Stopped
from pipeline.config.settings import Settings
from pipeline.home import journal
from pipeline.home.files import write_json
from pipeline.home.layout import Home
from pipeline.runs.record import beating, recorded


@pytest.mark.parametrize("write", [1, 2], ids=["the first record", "the last record"])
def test_a_run_told_to_stop_while_its_record_is_written_is_never_left_as_running(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, write: int
) -> None:
    writes: list[pathlib.Path] = []

    def told(path: pathlib.Path, values: Any) -> None:
        writes.append(path)
        if len(writes) == write:
            os.kill(os.getpid(), signal.SIGTERM)
        write_json(path, values)

    monkeypatch.setattr("pipeline.home.journal.write_json", told)
    settings = Settings(variants=("linear",), home=str(tmp_path))
    with pytest.raises(Stopped), recorded(settings, print):
        pass
    assert len(writes) >= write
    [record] = journal.read(Home.of(tmp_path))
    assert record.status in (journal.Status.STOPPED, journal.Status.SUCCEEDED)
    assert not record.failed


def test_what_trainers_and_components_log_is_a_heartbeat_and_what_libraries_log_is_none(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("trainer", "components"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.INFO)
    settings = Settings(variants=("linear",), home=str(tmp_path))
    with recorded(settings, lambda line: None) as writer, beating(writer):
        logging.getLogger("tfx.orchestration").warning("polling")
        assert writer.record.progress == ""
        logging.getLogger("trainer.loop.progress").info("linear: step 10 of 20")
        assert writer.record.progress
        [record] = journal.read(Home.of(tmp_path))
        assert record.progress
    writer.note(progress="")
    logging.getLogger("trainer.loop.progress").info("the run is over")
    assert writer.record.progress == ""
