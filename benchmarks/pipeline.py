"""Measure what a run costs besides its training steps, against TFX's own MNIST example, on the same data.

Run: python benchmarks/pipeline.py [--data DIR] [--runs 3]

Both are whole processes, from start to exit, in turn, cache off: the example that ships inside the tfx
package (its own pipeline and module, under LocalDagRunner), and `latentline run --variants mlp` with the same
5,000 steps of 40 images. From each, the training steps are taken off: for the example all of Keras's fit, for
latentline the steps alone, without their tracing, which favours the example.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import platformdirs
import yaml

from components.ingest import formats, sources
from schemas import PIXELS

HERE = pathlib.Path(__file__).parent
STEPS, BATCH_SIZE = 5_000, 40


def main() -> None:
    """Measure both in turn and print the table."""
    options = arguments()
    cache = pathlib.Path(platformdirs.user_cache_dir("latentline"))
    dataset = sources.locate(options.data, environment=os.environ, cache=cache, report=print)
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        write_example_data(dataset.folder, folder / "example-data")
        overheads: dict[str, list[float]] = {"tfx example": [], "latentline": []}
        for run in range(options.runs):
            for name, measure in (("tfx example", tfx_example), ("latentline", latentline)):
                place = folder / f"{name.replace(' ', '-')}-{run}"
                place.mkdir()
                whole, steps = measure(dataset, folder, place)
                overheads[name].append(whole - steps)
                print(f"{name:<12} run {run + 1}: whole {whole:6.1f} s, steps {steps:6.1f} s", flush=True)
    show(overheads, dataset.name)


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="auto", help="as for latentline run (default: auto)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each, in turn (default: 3)")
    return parser.parse_args()


def show(overheads: dict[str, list[float]], dataset: str) -> None:
    """Print the medians, and the ratio of the pairs."""
    print(f"\neverything but the training steps, {dataset}, median of {len(overheads['latentline'])} runs:")
    for name, seconds in overheads.items():
        print(f"  {name:<12} {statistics.median(seconds):6.1f} s")
    ratios = [
        ours / theirs for ours, theirs in zip(overheads["latentline"], overheads["tfx example"], strict=True)
    ]
    print(f"  ratio        {statistics.median(ratios):6.2f}  ({min(ratios):.2f} to {max(ratios):.2f})")


def latentline(dataset: sources.Dataset, folder: pathlib.Path, place: pathlib.Path) -> tuple[float, float]:
    """Return the seconds of one whole run, and of its training steps."""
    recipe = {"steps": STEPS, "batch_size": BATCH_SIZE}
    settings = place / "settings.yaml"
    settings.write_text(yaml.safe_dump({"variants": ["mlp"], "experiments": {"mlp": {"recipe": recipe}}}))
    whole = timed(
        ["-m", "pipeline", "run", "--settings", settings, "--data", dataset.folder, "--home", place / "home"],
        place,
    )
    [row] = json.loads((place / "home" / "report" / "leaderboard.json").read_text())
    return whole, row["step_seconds"]


def tfx_example(dataset: sources.Dataset, folder: pathlib.Path, place: pathlib.Path) -> tuple[float, float]:
    """Return the seconds of one whole run of TFX's example, and of its fit."""
    whole = timed([HERE / "tfx_example.py", folder / "example-data", place], place)
    return whole, float((place / "fit_seconds").read_text())


def timed(command: list[object], place: pathlib.Path) -> float:
    """Run a Python process and return its wall seconds; its output goes to `place`/output."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    with open(place / "output", "w") as output:
        started = time.perf_counter()
        code = subprocess.run(
            [sys.executable, *map(str, command)], stdout=output, stderr=subprocess.STDOUT, env=environment
        ).returncode
        seconds = time.perf_counter() - started
    if code:
        sys.exit(f"{command} failed:\n{(place / 'output').read_text()[-2000:]}")
    return seconds


def write_example_data(source: str, target: pathlib.Path) -> None:
    """Write all images as gzipped TFRecords for the example: PIXELS floats in [-0.5, 0.5] and a class."""
    import tensorflow as tf

    target.mkdir()
    with tf.io.TFRecordWriter(str(target / "mnist.tfrecord.gz"), "GZIP") as writer:
        for images, labels in formats.read(source, formats.AS_THEY_ARE).values():
            for image, label in zip(images.reshape(-1, PIXELS) / 255.0 - 0.5, labels, strict=True):
                example = tf.train.Example()
                example.features.feature["image_floats"].float_list.value.extend(image)
                example.features.feature["image_class"].int64_list.value.append(int(label))
                writer.write(example.SerializeToString())


if __name__ == "__main__":
    main()
