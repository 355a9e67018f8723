"""Run the MNIST example inside the tfx package once: python benchmarks/tfx_example.py DATA FOLDER.

It is the example's own pipeline and module, in this process under LocalDagRunner; FOLDER gets its artifacts
and `fit_seconds`, the time that Keras's fit took.
"""

import pathlib
import sys
import time
from typing import Any

# What the example imports in TFX's documentation, and what its users wait for.
from tfx import v1 as tfx
from tfx.examples.mnist import mnist_pipeline_native_keras as example
from tfx.examples.mnist import mnist_utils_native_keras as module


def main(data: str, folder: str) -> None:
    """Run the example on the TFRecords in `data`."""
    tfx.orchestration.LocalDagRunner().run(
        example._create_pipeline(
            pipeline_name="mnist",
            pipeline_root=f"{folder}/artifacts",
            data_root=data,
            module_file=__file__,
            serving_model_dir=f"{folder}/serving",
            metadata_path=f"{folder}/metadata.db",
            beam_pipeline_args=["--direct_running_mode=in_memory"],
        )
    )


def preprocessing_fn(inputs: Any) -> Any:
    """Preprocess as the example does."""
    return module.preprocessing_fn(inputs)


def run_fn(fn_args: Any) -> None:
    """Train as the example does, and print the seconds of its fit."""
    model_class = module.tf.keras.Sequential
    fit = model_class.fit

    def timed(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        history = fit(*args, **kwargs)
        pathlib.Path(fn_args.model_run_dir).parents[3].joinpath("fit_seconds").write_text(
            str(time.perf_counter() - started)
        )
        return history

    model_class.fit = timed
    module.run_fn(fn_args)


if __name__ == "__main__":
    main(*sys.argv[1:])
