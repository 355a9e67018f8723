import pathlib
import subprocess

import pytest

from components.serving import manifests


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    place = tmp_path / "7"
    (place / "Split-train").mkdir(parents=True)
    (place / "Split-train" / "a.gz").write_bytes(b"examples" * 100)
    (place / "empty").touch()
    manifests.write(str(place))
    return place


def test_a_folder_as_it_was_is_whole(folder: pathlib.Path) -> None:
    assert manifests.damage(str(folder), thorough=True) == ""
    assert manifests.path_of(str(folder)) == folder.parent / ".7.sha256"


def test_a_folder_without_a_manifest_counts_as_damaged(tmp_path: pathlib.Path) -> None:
    assert manifests.damage(str(tmp_path), thorough=True) == manifests.NONE


def test_a_shorter_file_is_named_with_both_lengths(folder: pathlib.Path) -> None:
    (folder / "Split-train" / "a.gz").write_bytes(b"examples")
    assert manifests.damage(str(folder), thorough=False) == "Split-train/a.gz has 8 bytes, expected 800"


def test_a_file_that_is_gone_is_named(folder: pathlib.Path) -> None:
    (folder / "empty").unlink()
    assert manifests.damage(str(folder), thorough=False) == "empty is missing"


def test_other_bytes_of_the_same_length_are_found_by_a_thorough_look_only(folder: pathlib.Path) -> None:
    (folder / "Split-train" / "a.gz").write_bytes(b"exampleS" * 100)
    assert manifests.damage(str(folder), thorough=False) == ""
    assert (
        manifests.damage(str(folder), thorough=True) == "Split-train/a.gz has other bytes than were written"
    )


def test_a_node_that_is_tried_again_gets_the_manifest_of_what_it_put_out_last(folder: pathlib.Path) -> None:
    (folder / "empty").write_bytes(b"x")
    manifests.write(str(folder))
    assert manifests.damage(str(folder), thorough=True) == ""


def test_a_manifest_that_was_cut_is_damage_too(folder: pathlib.Path) -> None:
    manifest = manifests.path_of(str(folder))
    for length in range(len(manifest.read_bytes())):
        content = manifest.read_bytes()
        manifest.write_bytes(content[:length])
        assert "manifest" in manifests.damage(str(folder), thorough=True)
        manifest.write_bytes(content)


def test_sha256sum_checks_a_folder_by_its_manifest(folder: pathlib.Path) -> None:
    lines = [
        line for line in manifests.path_of(str(folder)).read_text().splitlines() if not line.startswith("#")
    ]
    done = subprocess.run(
        ["sha256sum", "--check", "--strict"],
        input="\n".join(lines) + "\n",
        cwd=folder,
        text=True,
        check=False,
    )
    assert done.returncode == 0
