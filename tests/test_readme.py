"""Documents agree with the code: the README's table, commands and links, the rooms, and the version."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_table_of_variants_is_what_list_prints() -> None:
    command = [sys.executable, "-m", "pipeline", "list", "--markdown"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed.strip() in README, "run latentline list --markdown and put what it prints into the README"


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`?make ([a-z-]+)", README))
    assert {"run", "test"} <= named <= targets


def test_every_file_that_is_linked_exists() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_version_of_the_changelog_is_that_of_the_distribution() -> None:
    [version] = re.findall(r'version="([^"]+)"', (ROOT / "setup.py").read_text())
    newest = re.search(r"^## (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert newest[1] == version


def test_every_path_that_contributors_are_sent_to_exists() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text().split("## Glossary")[0]
    paths = re.findall(r"`((?:components|pipeline|requirements|tests|trainer)/[^ `]*)`", table)
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_map_names_every_room() -> None:
    rooms = (ROOT / "ARCHITECTURE.md").read_text().split("## Rooms")[1].split("## The way")[0]
    for package in ("components", "pipeline", "trainer"):
        found = {path.stem for path in (ROOT / package).iterdir() if path.suffix == ".py" or path.is_dir()}
        missing = {name for name in found if not name.startswith("__") and f"`{name}`" not in rooms}
        assert not missing, f"ARCHITECTURE.md does not name {sorted(missing)} of {package}"
