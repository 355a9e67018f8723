"""Estimate the likelihood of the test split under one exported model, for `latentline evaluate`."""

import json
import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import platformdirs
from tqdm import tqdm

from components.ingest import formats, sources
from components.reporting.model_card import CARD
from pipeline.evaluation import frechet, likelihood, resume
from pipeline.evaluation.saved_model import newest_version
from schemas import TEST_SPLIT


def evaluate(
    model: str,
    *,
    data: str | None,
    samples: int,
    limit: int | None,
    seed: int,
    rows: int,
    classifier: str | None = None,
    reading: formats.Reading | None = None,
) -> likelihood.Likelihood:
    """Estimate and print the test likelihood of a SavedModel.

    model: its folder, or a folder of numbered versions, of which the newest is taken. data: as in Settings;
    None for the data that the model was tested on, as its card states it. reading: of `data`.
    samples: importance samples per image. limit: images, spread over the test split; None for all.
    rows: images times samples at a time. classifier: a SavedModel on whose features the distance of samples
    from test images is measured and printed too. Raises LikelihoodError, FrechetError, DataSourceError and
    IdxError.
    """
    if limit is not None and limit < 1:
        raise likelihood.LikelihoodError(f"the limit must be at least 1 image, got {limit}")
    folder = newest_version(model)
    weigh = likelihood.log_weights(folder)
    feature_classifier = frechet.load(newest_version(classifier), "classify") if classifier else None
    known = card(folder)
    reading = reading or own_reading(known if data is None else {})
    dataset = chosen_data(data, known, folder, reading)
    examples = serialized(dataset.folder, limit, reading)
    kept_in = pathlib.Path(platformdirs.user_cache_dir("latentline"), "likelihood")
    found = _resumed(weigh, folder, examples, samples, seed, rows, kept_in)
    print(described(found, sources.title(dataset.name), protocol(folder)))
    if feature_classifier is not None:
        from components.ingest.examples import serialize

        apart = frechet.distance(
            frechet.load(folder, "sample"), feature_classifier, examples, serialize, seed
        )
        print(
            f"Fréchet   {apart.value:.3f} from samples to test images, by log-probabilities of {classifier}\n"
            f"          ({apart.between_halves:.3f} between halves of the test images; not Inception's FID)"
        )
    return found


def _resumed(
    weigh: likelihood.LogWeights, folder: str, examples: list[bytes], samples: int, seed: int, rows: int,
    kept_in: pathlib.Path,
) -> likelihood.Likelihood:  # fmt: skip
    """Estimate with a progress bar, from where the same estimate was interrupted."""
    kept = resume.Kept(kept_in, folder, examples, (samples, seed, rows))
    start = kept.load()
    if start is not None:
        _report(f"resuming after {len(start.bounds):,} of {len(examples):,} images")
    latest = start

    def keep(found: likelihood.Estimates) -> None:
        nonlocal latest
        latest = found
        kept.save(found)

    total = len(examples) * samples
    try:
        # Without a terminal there is nobody to watch a bar.
        with tqdm(total=total, unit=" samples", unit_scale=True, disable=None, leave=False) as bar:
            found = likelihood.estimate(
                weigh, examples, samples=samples, seed=seed, rows=rows, advance=bar.update, start=start,
                keep=keep,
            )  # fmt: skip
    except KeyboardInterrupt:
        if latest is not None:
            kept.save(latest, force=True)
        raise
    kept.clear()
    return found


def own_reading(known: Mapping[str, Any]) -> formats.Reading:
    """Return how a model's own data is read by its card; as grey values, if the card does not say."""
    return formats.Reading(**known.get("data", {}).get("reading", {}))


def serialized(folder: str, limit: int | None, reading: formats.Reading = formats.GREY_VALUES) -> list[bytes]:
    """Return raw tf.Examples of the test split, at most `limit`, spread evenly over it. Raises IdxError."""
    from components.ingest.examples import serialize  # imports TensorFlow: errors come before it

    part = formats.find(folder, reading.subset)[TEST_SPLIT]
    blocks = formats.blocks(part, reading.choices, {})
    pair = formats.joined(formats.to_grey(blocks, reading.pixels, TEST_SPLIT))
    count = len(pair.labels)
    chosen = np.linspace(0, count - 1, min(limit or count, count)).round().astype(int)
    return [serialize(pair.images[i].tobytes(), int(pair.labels[i])) for i in chosen]


def chosen_data(
    data: str | None, known: Mapping[str, Any], folder: str, reading: formats.Reading = formats.GREY_VALUES
) -> sources.Dataset:
    """Return the data to evaluate a model on: its own, unless `data` names other data.

    known: the model's card; folder: of the model, for messages. Raises LikelihoodError if the card does not
    say where the model's data lies, if other data lies there now, or if `auto` finds another data set than
    the model's; and DataSourceError.
    """
    own: Mapping[str, Any] = known.get("data", {})
    name = str(own.get("dataset", ""))
    if data is None and not own.get("source"):
        raise likelihood.LikelihoodError(
            f"{folder} has no model card that says where its test images lie; give them with --data"
        )
    cache = pathlib.Path(platformdirs.user_cache_dir("latentline"))
    place = data or (name if name == sources.DIGITS else str(own["source"]))
    found = sources.locate(place, environment=os.environ, cache=cache, report=_report, subset=reading.subset)
    if data is None:
        count = formats.count(formats.find(found.folder, reading.subset)[TEST_SPLIT])
        tested = own["splits"][TEST_SPLIT]
        # A name in the settings need not be that of the folder; those of published files are by their bytes.
        published = {sources.MNIST, sources.DIGITS} & {name, found.name}
        if count != tested or (published and found.name != name):
            raise likelihood.LikelihoodError(
                f"{found.folder} holds {count:,} test images of {found.name}, but the model was tested on "
                f"{tested:,} of {name}; give the data with --data"
            )
    elif name and found.name != name and found.folder != own.get("source"):
        differ = f"the model was trained on {sources.title(name)}, not on {sources.title(found.name)}"
        if data == sources.AUTO:
            raise likelihood.LikelihoodError(
                f"{differ}, which {sources.AUTO} found; leave --data out, or name the data set if you mean it"
            )
        _report(f"! {differ}")
    return found


def card(folder: str) -> dict[str, Any]:
    """Return the card of the model in `folder`; empty if it has none."""
    path = pathlib.Path(folder, CARD)
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def protocol(folder: str) -> str:
    """Return the protocol of the model as its card states it; "unknown" without a card."""
    return str(card(folder).get("training", {}).get("protocol", "unknown"))


def described(found: likelihood.Likelihood, dataset: str, protocol: str) -> str:
    """Format the estimate as a few lines, with units."""
    doubt = "" if found.believable else "; too small to believe the estimate, give more samples"
    sampling = "nan" if found.samples < 2 else f"{found.sampling_error:.3f}"
    return "\n".join(
        [
            f"test NLL  {found.nll:.3f} ± {found.standard_error:.3f} nats per image "
            f"(standard error; {sampling} of it from sampling)",
            f"          {found.bits_per_dimension:.4f} bits per pixel",
            f"data      {found.images:,} test images of {dataset}, protocol {protocol}",
            f"samples   {found.samples:,} per image; "
            f"median effective sample size {found.effective_samples:.1f}{doubt}",
        ]
    )


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
