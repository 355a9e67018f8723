import errno
import pathlib
import shutil

import pytest

from components.serving import manifests
from pipeline.execution import diagnosis


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/home/x/model"), "/home/x/model"),
        (OSError(errno.ENOSPC, "No space left on device"), "/home"),
        (RuntimeError("RESOURCE_EXHAUSTED: /a/b_temp/part-0; No space left on device"), "/a/b_temp/part-0"),
        (ValueError("database or disk is full"), "/home"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", b"/q"), "/q"),
        (caused(RuntimeError("wrapped"), OSError(errno.ENOSPC, "No space left on device", "/f")), "/f"),
    ],
)
def test_a_full_disk_is_told_with_its_place_through_whatever_library(error: Exception, place: str) -> None:
    assert diagnosis.explain(error, home="/home").startswith(f"the disk is full at {place}; make room")


def test_a_full_disk_behind_an_error_in_handling_it_is_told() -> None:
    error = KeyError("while cleaning up")
    error.__context__ = OSError(errno.ENOSPC, "No space left on device", "/first")
    assert "the disk is full at /first" in diagnosis.explain(error)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written_to_is_named(number: int) -> None:
    found = diagnosis.explain(OSError(number, "no", "/serving/mlp"))
    assert found.startswith("/serving/mlp ")
    assert "make it writable" in found


def test_damage_of_an_input_is_the_cause_whatever_its_reader_says(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "3"
    folder.mkdir()
    (folder / "file").write_bytes(b"whole")
    manifests.write(str(folder))
    assert diagnosis.explain(ValueError("corrupted record"), inputs=[str(folder)]) == "corrupted record"
    (folder / "file").write_bytes(b"Whole")
    found = diagnosis.explain(ValueError("corrupted record"), inputs=[str(folder)])
    assert found.startswith(f"its input {folder} is damaged (file has other bytes")


def test_any_other_error_keeps_its_own_words_without_what_beam_adds() -> None:
    error = caused(
        RuntimeError("outer"), ValueError("the label 11 is no class [while running 'Map']\n  at 3")
    )
    assert diagnosis.explain(error) == "the label 11 is no class"
    assert diagnosis.of_the_disk(error) == ""


@pytest.mark.parametrize(("free", "full"), [(4096, True), (1 << 30, False)])
def test_a_transaction_that_sqlite_rolled_back_means_a_full_disk_where_there_is_no_room(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, free: int, full: bool
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr("pipeline.execution.diagnosis.shutil.disk_usage", lambda _: usage)
    error = RuntimeError(
        "Error when executing query: cannot commit - no transaction is active query: COMMIT;"
    )
    found = diagnosis.explain(error, home=str(tmp_path))
    assert found.startswith(f"the disk is full at {tmp_path}") is full
