"""Wall time, CPU time and peak memory by component against the number of images.

    python -m benchmarks.scale [--sizes 60000,600000,3000000,8000000] [--data mnist] [--variant vae_dense]
                               [--only-checks] [--out FOLDER]

Each size is made of the images of --data: copies that are shifted by up to three pixels, as in Infinite
MNIST, written as IDX files. Measured first is what every run does before anything else, even if all is
cached: naming the data set and hashing every byte that would be read. Then the pipeline trains one variant
with the budget of `smoke` in a process of its own. Its memory (what no file stands behind) and CPU time are
sampled every 50 ms, with those of its children, and a component ends when the run prints its line. Writes
scale.json and scale.png to FOLDER.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import platformdirs
import psutil

from components.ingest import formats, idx, sources
from schemas import SIDE, TEST_SPLIT, TRAIN_SPLIT
from trainer.devices import quiet

SIZES = (60_000, 600_000, 3_000_000, 8_000_000)
SHIFT = 3
"""Most pixels by which a copy is shifted."""
TEST_IMAGES = 10_000
EVERY_SECONDS = 0.05
COMPONENT = re.compile(r"\+ (\S+) +[\d.]+ s")
TOTAL, CHECKS = "whole run", "naming and fingerprint"


def main(arguments: list[str] | None = None) -> None:
    """Measure every size and write the table and the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="training images, with commas")
    parser.add_argument("--data", default=sources.MNIST, help="the images to make copies of (default: mnist)")
    parser.add_argument("--variant", default="vae_dense")
    parser.add_argument("--only-checks", action="store_true", help="leave out the runs of the pipeline")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out/benchmarks"))
    options = parser.parse_args(arguments)
    quiet.libraries()
    options.out.mkdir(parents=True, exist_ok=True)
    cache = pathlib.Path(platformdirs.user_cache_dir("latentline"))
    dataset = sources.locate(options.data, environment=os.environ, cache=cache, report=print)
    originals = formats.read(dataset.folder, formats.AS_THEY_ARE)
    rows: list[dict[str, Any]] = []
    for size in map(int, options.sizes.split(",")):
        with tempfile.TemporaryDirectory() as place:
            data = pathlib.Path(place, "data")
            write(data, originals, size)
            rows.append(checks(data, size))
            if not options.only_checks:
                rows += run(data, size, options.variant, pathlib.Path(place, "home"))
        show([row for row in rows if row["images"] == size])
        (options.out / "scale.json").write_text(json.dumps(rows, indent=1) + "\n")
    plot(rows, options.out / "scale.png")


def write(folder: pathlib.Path, originals: dict[str, idx.Images], size: int) -> None:
    """Write a data set of `size` training images, shifted copies of the originals, and of the test images."""
    folder.mkdir()
    counts = {TRAIN_SPLIT: size, TEST_SPLIT: min(TEST_IMAGES, len(originals[TEST_SPLIT].labels))}
    for split, count in counts.items():
        for kind, rank in idx.KINDS.items():
            path = folder / f"{idx.PREFIXES[split]}-{kind}-idx{rank}-ubyte"
            with open(path, "wb") as file:
                file.write(idx.header([count, *idx.ITEMS[kind]]))
                for block in shifted(originals[split], count):
                    file.write(getattr(block, kind).tobytes())


def shifted(pair: idx.Images, count: int) -> Iterator[idx.Images]:
    """Yield `count` images in blocks: the originals, then copies of them that are shifted at random."""
    for number, first in enumerate(range(0, count, len(pair.labels))):
        draw = np.random.default_rng(number)
        down, right = draw.integers(-SHIFT, SHIFT + 1, 2) if number else (0, 0)
        own = slice(0, min(len(pair.labels), count - first))
        moved = np.roll(pair.images[own], (down, right), axis=(1, 2))
        if number:  # two shifts may be the same: no two images are
            moved[:, draw.integers(SIDE), draw.integers(SIDE)] ^= np.uint8(1 + number % 255)
        yield idx.Images(moved, pair.labels[own])


def checks(data: pathlib.Path, size: int) -> dict[str, Any]:
    """Measure what a run does with the files before it starts a component."""
    from components.ingest import spans  # imports TensorFlow, which is none of the checks

    started, cpu = time.perf_counter(), time.process_time()
    sources.from_folder(str(data))
    taken = spans.files_taken(spans.delivered(str(data), [spans.PLAIN]))
    spans.fingerprint(str(data), spans.digests(taken))
    return {
        "images": size,
        "component": CHECKS,
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mb": None,
    }


def run(data: pathlib.Path, size: int, variant: str, home: pathlib.Path) -> list[dict[str, Any]]:
    """Run the pipeline and return a row per component, and one of the whole run."""
    command = [sys.executable, "-m", "pipeline", "run", "--variants", variant, "--profile", "smoke"]
    command += ["--data", str(data), "--home", str(home)]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        watch = Watch(process.pid)
        assert process.stdout
        rows = []
        for line in process.stdout:
            if found := COMPONENT.match(line):
                rows.append({"images": size, "component": found[1], **watch.since()})
        whole = watch.stop()
    if process.returncode:
        raise SystemExit(f"the run of {size:,} images failed with exit code {process.returncode}")
    return [*rows, {"images": size, "component": TOTAL, **whole, "seconds": time.perf_counter() - started}]


class Watch:
    """The time, CPU time and memory of a process and its children, since the last question and in all."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._cpu: dict[int, float] = {}
        self._most = self._most_of_all = 0.0
        self._at, self._cpu_at = time.perf_counter(), 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def since(self) -> dict[str, float]:
        """Return the seconds, CPU seconds and peak MB since the last call."""
        now, cpu = time.perf_counter(), sum(self._cpu.values())
        row = {"seconds": now - self._at, "cpu_seconds": cpu - self._cpu_at, "peak_mb": self._most}
        self._at, self._cpu_at, self._most = now, cpu, 0.0
        return row

    def stop(self) -> dict[str, float]:
        """Return the CPU seconds and peak MB of the whole; end the watch."""
        self._stop.set()
        self._thread.join()
        return {"cpu_seconds": sum(self._cpu.values()), "peak_mb": self._most_of_all}

    def _watch(self) -> None:
        while not self._stop.wait(EVERY_SECONDS):
            total = 0.0
            try:
                processes = [self._process, *self._process.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            for process in processes:
                try:
                    memory, times = process.memory_info(), process.cpu_times()
                except (psutil.NoSuchProcess, psutil.AccessDenied):
                    continue
                total += (memory.rss - memory.shared) / 1e6
                self._cpu[process.pid] = times.user + times.system
            self._most = max(self._most, total)
            self._most_of_all = max(self._most_of_all, total)


def show(rows: list[dict[str, Any]]) -> None:
    """Print a table of one size."""
    print(f"\n{rows[0]['images']:,} training images\n")
    print("| component | wall, s | CPU, s | peak, MB |\n|---|---:|---:|---:|")
    for row in rows:
        peak = "" if row["peak_mb"] is None else f"{row['peak_mb']:,.0f}"
        times = f"{row['seconds']:.2f} | {row['cpu_seconds']:.2f}"
        print(f"| {row['component']} | {times} | {peak} |", flush=True)


def plot(rows: list[dict[str, Any]], path: pathlib.Path) -> None:
    """Draw seconds and peak memory against the number of images, a line per component."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    labels = {"seconds": "wall, s", "peak_mb": "peak, MB"}
    shown = [key for key in labels if any(row[key] for row in rows)]
    figure, [panels] = pyplot.subplots(1, len(shown), figsize=(10, 4), layout="constrained", squeeze=False)
    names = list(dict.fromkeys(row["component"] for row in rows))
    for panel, key in zip(panels, shown, strict=True):
        for name in names:
            mine = [row for row in rows if row["component"] == name and row[key] is not None]
            panel.plot([row["images"] for row in mine], [row[key] for row in mine], marker="o", label=name)
        panel.set(xlabel="training images", ylabel=labels[key], xscale="log", yscale="log")
    panels[-1].legend(fontsize="small")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
