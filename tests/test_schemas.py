"""Shapes and names of the data are those of `schemas`, wherever they are used."""

import pathlib
import subprocess
import sys

from trainer import variants

SCRIPT = pathlib.Path(__file__).parent / "trainer" / "scripts" / "other_images.py"


def test_images_of_another_size_and_a_feature_of_another_name_go_through_every_variant(
    tmp_path: pathlib.Path,
) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)], capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    shapes = {line.split()[0]: line.split(maxsplit=1)[1] for line in done.stdout.splitlines()}
    assert shapes.keys() == set(variants.names())
    for name, found in shapes.items():
        variant = variants.load(name)
        expected = [[2, 32, 32, 1]] * variant.generative + [[2, 10]] * variant.classifies
        assert found == str(expected), name
