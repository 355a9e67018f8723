"""Memory and time against the number of images: kept in memory, and read from disk above a budget.

    python benchmarks/memory.py [--images N] [--steps S] [--out FOLDER]

Transformed examples of N random images are written once and read 1, 4 and 16 times over, each time by a
process of its own, which then trains `mlp` for S steps. Reported: the process's peak memory beyond what it
held before reading, the seconds to read and sort the set, and the seconds of the steps. Memory is what the
process allocated; pages of files that the system keeps while there is room for them are not. Writes
memory.json and memory.png to FOLDER.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

from trainer.devices import quiet, threads

TIMES = (1, 4, 16)
BUDGETS = {"in memory": 1 << 40, "from disk": 32 << 20}
VARIANT = "mlp"
MEGABYTE = 1e6
EVERY_SECONDS = 0.01


def write(path: pathlib.Path, images: int) -> None:
    """Write transformed examples of random images, as Transform would."""
    import numpy as np
    import tensorflow as tf

    from schemas import CLASSES, LABEL, PIXELS, PIXELS_FEATURE

    draw = np.random.default_rng(0)
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for _ in range(images):
            example = tf.train.Example()
            pixels = (draw.random(PIXELS) < 0.15).astype(int)
            example.features.feature[PIXELS_FEATURE].int64_list.value.extend(pixels.tolist())
            example.features.feature[LABEL].int64_list.value.append(int(draw.integers(CLASSES)))
            writer.write(example.SerializeToString())


class Peak:
    """Watch how much memory this process has allocated, from a thread of its own."""

    def __init__(self) -> None:
        self.most = self.before = allocated()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(EVERY_SECONDS):
            self.most = max(self.most, allocated())

    def beyond_start(self) -> float:
        """Most memory since the start, beyond that of the start, MB; ends the watch."""
        self._stop.set()
        self._thread.join()
        return max(self.most, allocated()) - self.before


def allocated() -> float:
    """Return the resident memory of this process that is not backed by a file, in MB."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return sum(int(fields[name].split()[0]) for name in ("RssAnon", "RssShmem")) * 1024 / MEGABYTE


def once(path: str, times: int, budget: int, steps: int) -> dict[str, float]:
    """Read the file `times` times, train, and return seconds and MB by name. Runs in a process of its own."""
    from trainer import variants
    from trainer.loop import data, fit

    variant = variants.load(VARIANT)
    model = variant.build({})
    data.load((path,), budget=budget + 1)  # so that what TensorFlow needs in any case is there
    data.clear()
    peak = Peak()
    started = time.perf_counter()
    examples = data.load((path,) * times, budget=budget)
    loaded = time.perf_counter()
    fitted = fit.fit(
        model, examples, recipe=variant.recipe, steps=steps, protocol="threshold", seed=0, name=VARIANT
    )
    return {
        "images": len(examples.labels),
        "peak_mb": peak.beyond_start(),
        "load_seconds": loaded - started,
        "step_seconds": fitted.step_seconds,
    }


def plot(rows: list[dict[str, object]], path: pathlib.Path) -> None:
    """Plot memory and reading time against the number of images."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for panel, (key, label) in zip(
        panels, {"peak_mb": "peak memory, MB", "load_seconds": "reading and sorting, s"}.items(), strict=True
    ):
        for mode in BUDGETS:
            mine = [row for row in rows if row["mode"] == mode]
            panel.plot([row["images"] for row in mine], [row[key] for row in mine], marker="o", label=mode)
        panel.set(xlabel="images", ylabel=label, xscale="log", ylim=(0, None))
        panel.legend()
    figure.savefig(path, dpi=150)


def main(arguments: list[str]) -> None:
    """Measure every size, print the table and draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=60_000, help="in the file (default: 60000)")
    parser.add_argument("--steps", type=int, default=2_000, help="of training (default: 2000)")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out/benchmarks"))
    parser.add_argument("--once", nargs=3, metavar=("FILE", "TIMES", "BUDGET"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.once:
        file, times, budget = given.once
        print(json.dumps(once(file, int(times), int(budget), given.steps)))
        return
    quiet.libraries()
    threads.one_an_operation()
    given.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "examples.gz")
        write(file, given.images)
        for mode, budget in BUDGETS.items():
            for times in TIMES:
                command = [sys.executable, __file__, "--steps", str(given.steps)]
                command += ["--once", str(file), str(times), str(budget)]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                rows.append({"mode": mode, "times": times, **json.loads(done.stdout.splitlines()[-1])})
                print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    (given.out / "memory.json").write_text(json.dumps(rows, indent=1))
    plot(rows, given.out / "memory.png")


if __name__ == "__main__":
    main(sys.argv[1:])
