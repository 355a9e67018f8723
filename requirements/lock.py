"""Resolve direct.in into lock.txt: every package pinned and hashed, no registry address.

Run: make lock (inside .venv, so that uv and pip are there)

Two wheels, tfx and ml-pipelines-sdk, say in their metadata that they do not run on Python 3.11,
though they do; a resolver therefore refuses them. They are pinned here by their own hash, and what
tfx requires is handed to the resolver as if this project required it. Versions already in lock.txt
are kept where they still fit; delete the file to take the newest.
"""

import email
import hashlib
import pathlib
import subprocess
import sys
import tempfile
import zipfile

HERE = pathlib.Path(__file__).parent
UNRESOLVABLE = ("tfx", "ml-pipelines-sdk")


def main() -> None:
    direct = (HERE / "direct.in").read_text().splitlines()
    pins = [line for line in direct if line.split("==")[0] in UNRESOLVABLE]
    with tempfile.TemporaryDirectory() as folder:
        wheels = download(pins, folder)
        resolve([line for line in direct if line not in pins] + requirements_of(wheels))
        with open(HERE / "lock.txt", "a") as lock:
            for pin, wheel in zip(pins, wheels, strict=True):
                digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
                lock.write(f"{pin} \\\n    --hash=sha256:{digest}\n")


def download(pins: list[str], folder: str) -> list[pathlib.Path]:
    """The wheels of the pins, in the order of the pins."""
    wheels = []
    for pin in pins:
        target = pathlib.Path(folder, pin.split("==")[0])
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*command, "--ignore-requires-python", "--dest", str(target), pin], check=True)
        wheels.append(next(target.glob("*.whl")))
    return wheels


def requirements_of(wheels: list[pathlib.Path]) -> list[str]:
    """What the wheels require, without their extras and without each other."""
    found = []
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
            metadata = email.message_from_bytes(archive.read(name))
        requires = metadata.get_all("Requires-Dist") or []
        found += [r for r in requires if "extra ==" not in r and not r.startswith(UNRESOLVABLE)]
    return found


def resolve(requirements: list[str]) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".in") as source:
        source.write("\n".join(requirements))
        source.flush()
        options = "--generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links"
        command = [
            sys.executable,
            "-m",
            "uv",
            "pip",
            "compile",
            source.name,
            "--output-file",
            str(HERE / "lock.txt"),
        ]
        subprocess.run([*command, "--quiet", "--python-version", "3.11", *options.split()], check=True)


if __name__ == "__main__":
    main()
