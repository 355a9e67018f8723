"""Install lock.txt into the environment whose Python runs this file.

Run: make setup (or, in an image: python requirements/install.py)

uv installs the lock in seconds where pip takes minutes, but refuses the two wheels whose metadata
excludes Python 3.11; pip takes those two. uv itself comes from the lock, by its hash.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

LOCK = pathlib.Path(__file__).parent / "lock.txt"
PIP = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--ignore-requires-python"]
UV = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--python", sys.executable]
# Without this the first import of everything compiles it, and each one does where writing .pyc is off.
UV += ["--compile-bytecode"]


def main() -> None:
    if sys.version_info[:2] != (3, 11):
        found = ".".join(map(str, sys.version_info[:2]))
        sys.exit(
            f"latentline needs Python 3.11 (TensorFlow Extended has no other wheels); this is Python {found}."
        )
    pins = locked_pins()
    for_pip = {"tfx", "ml-pipelines-sdk"}
    install(PIP, [pins["uv"]])
    install(UV, [pin for name, pin in pins.items() if name not in for_pip])
    install(PIP, [pins[name] for name in sorted(for_pip)])


def locked_pins() -> dict[str, str]:
    """Each package's lines of the lock (the pin and its hashes), by package name."""
    blocks = re.split(r"\n(?=\S)", LOCK.read_text().strip())
    return {block.split("==")[0]: block for block in blocks}


def install(command: list[str], pins: list[str]) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write("\n".join(pins) + "\n")
        requirements.flush()
        subprocess.run([*command, "--require-hashes", "-r", requirements.name], check=True)


if __name__ == "__main__":
    main()
