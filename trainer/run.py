"""The Trainer component's entry point: train one variant and export it."""

import contextlib
import dataclasses
import io
import json
import os
import posixpath
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from schemas import TRAIN_SPLIT, TRAINING_FRAMES, TRAINING_RECORD
from trainer import variants
from trainer.devices import scale
from trainer.export import export
from trainer.job import Job
from trainer.loop import checkpoints, data
from trainer.loop.fit import Fitted, fit
from trainer.loop.warm import WarmStart
from trainer.recipe import IMPORTANCE_SAMPLES, Recipe

CHECKPOINTS_VARIABLE = "LATENTLINE_CHECKPOINTS"
"""Environment variable that names a folder for checkpoints, where the pipeline root is not the place."""


def run_fn(args: Any) -> None:
    """Train the variant of custom_config["job"] and export it; TFX calls this with its FnArgs."""
    started = time.perf_counter()
    job = Job.from_dict(args.custom_config["job"])
    variant = variants.load(job.variant)
    recipe = variant.recipe.with_overrides(job.recipe)
    samples = IMPORTANCE_SAMPLES[job.profile]

    strategy = scale.choose(os.environ)
    chief = scale.is_chief(os.environ)
    keras.utils.set_random_seed(job.seed)
    with strategy.scope() if strategy.num_replicas_in_sync > 1 else contextlib.nullcontext():
        model = variant.build(job.config)
    train, test = data.load(tuple(args.train_files)), data.load(tuple(args.eval_files))
    folder = checkpoint_folder(args, job)
    kept = checkpoints.Checkpoints(folder, writes=chief)
    start = WarmStart(args.base_model, job.variant) if args.custom_config.get("warm_start") else None
    fitted = fit(
        model, train, recipe=recipe, steps=int(recipe.steps.of(job.profile)), protocol=job.protocol,
        seed=job.seed, name=job.variant, held_out=test, checkpoints=kept, strategy=strategy, start=start,
        log_dir=os.path.join(args.model_run_dir, TRAIN_SPLIT) if chief else None,
    )  # fmt: skip
    if not chief:
        return
    export(model, args.transform_graph_path, args.serving_model_dir, protocol=job.protocol, samples=samples)
    write_record(args.model_run_dir, fitted, recipe, {
        **job.to_dict(), "family": variant.family,
        "resolved": {
            "config": dataclasses.asdict(variant.config(job.config)), "recipe": recipe.resolved(job.profile),
        },
        "latent_prior": getattr(model, "latent_prior", None), "parameters": model.parameters(),
        "importance_samples": samples, "examples": len(train.labels),
        "warm_start": start.to_dict() if start else None, "replicas": strategy.num_replicas_in_sync,
        "train_seconds": time.perf_counter() - started,
    })  # fmt: skip
    kept.clear()
    checkpoints.remove_abandoned(posixpath.dirname(folder))


def checkpoint_folder(args: Any, job: Job) -> str:
    """Return the folder of this work's checkpoints: the same for every attempt at it, and for nothing else.

    It lies in `checkpoints` under the pipeline root, two above the component's own `model_run`. There data
    and base model are named by their paths under that root, which stay the same when a home is moved. A
    folder elsewhere may be shared by many roots, so that there they are named by their whole paths.
    """
    component = posixpath.dirname(posixpath.dirname(args.model_run_dir.rstrip("/")))
    root = posixpath.dirname(component)
    elsewhere = os.environ.get(CHECKPOINTS_VARIABLE)
    above = "" if elsewhere else f"{root}/"
    work = {
        "job": job.to_dict(),
        "code": args.custom_config.get("code"),
        "data": [file.removeprefix(above) for file in args.train_files],
        "base": args.base_model and args.base_model.removeprefix(above),
        "tensorflow": tf.__version__,
    }
    return checkpoints.folder_of(elsewhere or posixpath.join(root, "checkpoints"), job.variant, work)


def write_record(folder: str, fitted: Fitted, recipe: Recipe, about: dict[str, Any]) -> None:
    """Write training.json, and frames.npz where the model drew any, into the model_run artifact."""
    record = {
        **about, "steps": fitted.steps, "batch_size": recipe.batch_size, "step_seconds": fitted.step_seconds,
        "images_per_second": fitted.images_per_second,
        "curve": [dataclasses.asdict(point) for point in fitted.curve],
        "held_out": [dataclasses.asdict(point) for point in fitted.held_out],
    }  # fmt: skip
    with tf.io.gfile.GFile(os.path.join(folder, TRAINING_RECORD), "w") as file:
        json.dump(record, file, indent=1)
    if len(fitted.frames):
        content = io.BytesIO()
        np.savez_compressed(content, frames=fitted.frames, steps=fitted.frame_steps)
        with tf.io.gfile.GFile(os.path.join(folder, TRAINING_FRAMES), "wb") as file:
            file.write(content.getvalue())
