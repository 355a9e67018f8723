import pathlib
import subprocess

import pytest

from pipeline.home import manifests as seals


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    place = tmp_path / "7"
    (place / "Split-train").mkdir(parents=True)
    (place / "Split-train" / "a.gz").write_bytes(b"examples" * 100)
    (place / "empty").touch()
    seals.seal(str(place))
    return place


def test_a_folder_as_it_was_is_whole(folder: pathlib.Path) -> None:
    assert seals.damage(str(folder), thorough=True) == ""
    assert seals.path_of(str(folder)) == folder.parent / ".7.sha256"


def test_a_folder_without_a_seal_is_not_judged(tmp_path: pathlib.Path) -> None:
    assert seals.damage(str(tmp_path), thorough=True) == ""


def test_a_shorter_file_is_named_with_both_lengths(folder: pathlib.Path) -> None:
    (folder / "Split-train" / "a.gz").write_bytes(b"examples")
    assert seals.damage(str(folder), thorough=False) == "Split-train/a.gz has 8 bytes, expected 800"


def test_a_file_that_is_gone_is_named(folder: pathlib.Path) -> None:
    (folder / "empty").unlink()
    assert seals.damage(str(folder), thorough=False) == "empty is missing"


def test_other_bytes_of_the_same_length_are_found_by_a_thorough_look_only(folder: pathlib.Path) -> None:
    (folder / "Split-train" / "a.gz").write_bytes(b"exampleS" * 100)
    assert seals.damage(str(folder), thorough=False) == ""
    assert seals.damage(str(folder), thorough=True) == "Split-train/a.gz has other bytes than were written"


def test_a_second_seal_does_not_hide_damage(folder: pathlib.Path) -> None:
    (folder / "empty").write_bytes(b"x")
    seals.seal(str(folder))
    assert seals.damage(str(folder), thorough=False) == "empty has 1 bytes, expected 0"


def test_a_seal_that_was_cut_is_damage_too(folder: pathlib.Path) -> None:
    seal = seals.path_of(str(folder))
    for length in range(len(seal.read_bytes())):
        content = seal.read_bytes()
        seal.write_bytes(content[:length])
        assert "seal" in seals.damage(str(folder), thorough=True)
        seal.write_bytes(content)


def test_sha256sum_checks_a_folder_by_its_seal(folder: pathlib.Path) -> None:
    lines = [line for line in seals.path_of(str(folder)).read_text().splitlines() if not line.startswith("#")]
    done = subprocess.run(
        ["sha256sum", "--check", "--strict"],
        input="\n".join(lines) + "\n",
        cwd=folder,
        text=True,
        check=False,
    )
    assert done.returncode == 0
