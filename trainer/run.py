"""The Trainer component's entry point: train one variant and export it."""

import dataclasses
import json
import os
import time
from typing import Any

import keras
import tensorflow as tf

from schemas import TRAIN_SPLIT, TRAINING_RECORD
from trainer import data, variants
from trainer.export import export
from trainer.fit import fit
from trainer.job import Job
from trainer.recipe import IMPORTANCE_SAMPLES


def run_fn(args: Any) -> None:
    """Train the variant of custom_config["job"]; called by TFX with its FnArgs."""
    started = time.perf_counter()
    job = Job.from_dict(args.custom_config["job"])
    variant = variants.load(job.variant)
    recipe = variant.recipe.with_overrides(job.recipe)
    steps = int(recipe.steps.of(job.profile))
    samples = IMPORTANCE_SAMPLES[job.profile]

    keras.utils.set_random_seed(job.seed)
    model = variant.build(job.config)
    train = data.load(tuple(p for p in args.train_files))
    fitted = fit(
        model, train, recipe=recipe, steps=steps, protocol=job.protocol, seed=job.seed,
        name=job.variant, log_dir=os.path.join(args.model_run_dir, TRAIN_SPLIT),
    )  # fmt: skip
    export(model, args.transform_graph_path, args.serving_model_dir, protocol=job.protocol, samples=samples)

    record = {
        **job.to_dict(), "family": variant.family, "steps": fitted.steps, "batch_size": recipe.batch_size,
        "parameters": model.parameters(), "importance_samples": samples, "examples": len(train.labels),
        "step_seconds": fitted.step_seconds, "images_per_second": fitted.images_per_second,
        "train_seconds": time.perf_counter() - started,
        "curve": [dataclasses.asdict(point) for point in fitted.curve],
    }  # fmt: skip
    with tf.io.gfile.GFile(os.path.join(args.model_run_dir, TRAINING_RECORD), "w") as file:
        json.dump(record, file, indent=1)
