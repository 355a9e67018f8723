"""The sources' published figures: how each is measured, and where ours has to lie.

A row of FIGURES is a number measured at a step of a Training, and the range that accepts it.
"""

import collections
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from components.ingest import formats, sources
from schemas import PIXELS, TEST_SPLIT, TRAIN_SPLIT
from trainer import variants

if TYPE_CHECKING:  # TensorFlow is imported after the command line is understood
    from trainer.loop.data import Examples
    from trainer.loop.history import Point
    from trainer.models.model import Batch, Model

EPOCH = 60_000
"""Images of MNIST's training split."""
ACTIVE = 0.01
"""A latent is active where the variance of its posterior mean over the test set is greater (Burda et al.)."""
EVALUATED_AT_ONCE = 500
ADAM = {"optimizer": "adam", "learning_rate": 1e-3}
SGD = {"optimizer": "sgd", "learning_rate": 1e-3, "batch_size": 64}
SOURCE = {"objective": "source"}
GUIDE = "Keras guide"


class Data:
    """A data set in the form the loop takes, read once a split and protocol."""

    def __init__(self, dataset: sources.Dataset) -> None:
        self.name = dataset.name
        self._parts = formats.find(dataset.folder)

    @functools.lru_cache(maxsize=4)  # noqa: B019 (one object a process)
    def examples(self, split: str, protocol: str) -> "Examples":
        """A split as Transform would leave it: PIXELS bytes an image."""
        import numpy as np
        import tensorflow as tf

        from trainer.binarize import to_features
        from trainer.loop.data import Examples

        images, labels = formats.joined(formats.blocks(self._parts[split], formats.AS_THEY_ARE, {}))
        raw = tf.constant(images.reshape(-1, PIXELS).astype(np.int32))
        return Examples(to_features(raw, protocol).numpy().astype(np.uint8), labels.astype(np.int64))


class CannotTrain(ValueError):
    """A training that no variant can do; the message says which and why."""


@dataclasses.dataclass(frozen=True, eq=False)
class Training:
    """One way to train a variant.

    Attributes:
      variant: its name.
      config, recipe: overrides of its Config and RECIPE; a training leaves nothing of its source to defaults.
      protocol: binarization of training.
      tested: binarization of the test set, where it is another.
      seeds: of the runs, each of weights, batches and noise.
    """

    variant: str
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    protocol: str = "threshold"
    tested: str = ""
    seeds: tuple[int, ...] = (0,)

    def check(self) -> None:
        """Raise CannotTrain unless there is such a variant and it takes such a config and recipe."""
        try:
            variant = variants.load(self.variant)
            variant.config(self.config)
            variant.recipe.with_overrides(self.recipe)
        except ValueError as error:
            raise CannotTrain(f"the row of {self.variant} cannot be trained: {error}") from error

    def text(self, steps: int) -> str:
        """The training in words."""
        recipe = variants.load(self.variant).recipe.with_overrides(self.recipe)
        config = "".join(f", {key} {value}" for key, value in self.config.items())
        tested = f" (tested {self.tested})" if self.tested else ""
        return (
            f"{self.protocol}{tested}, {recipe.optimizer} {recipe.learning_rate:g}, "
            f"batch {recipe.batch_size}, {steps:,} steps{config}"
        )


class Range(NamedTuple):
    """Values that are accepted, both ends included."""

    low: float = -math.inf
    high: float = math.inf

    def holds(self, value: float) -> bool:
        """Whether the value is accepted; one that is not a number is not."""
        return self.low <= value <= self.high

    def text(self, digits: int) -> str:
        """The range in words."""
        if math.isinf(self.high):
            return f"at least {self.low:.{digits}f}"
        if math.isinf(self.low):
            return f"at most {self.high:.{digits}f}"
        return f"{self.low:.{digits}f} to {self.high:.{digits}f}"


def around(value: float, tolerance: float) -> Range:
    """value ± tolerance."""
    return Range(value - tolerance, value + tolerance)


class Moment:
    """A training stopped at a step: the model, and what was seen so far."""

    def __init__(
        self, model: "Model", curve: "Sequence[Point]", training: Training, data: "Data", seed: int
    ) -> None:
        self._model, self._curve, self._training, self._data, self._seed = model, curve, training, data, seed

    def running_mean(self, term: str, since: int) -> float:
        """Mean of a training term over the steps after `since`, nats; the curve has a point at `since`."""
        steps, total = since, 0.0
        for point in self._curve:
            if point.step > since:
                total += point.values[term] * (point.step - steps)
                steps = point.step
        return total / (steps - since)

    def loss(self, split: str) -> float:
        """Mean of the training objective over a whole split, in batches of the recipe's size."""
        training = self._training
        recipe = variants.load(training.variant).recipe.with_overrides(training.recipe)
        found = self._over(
            split,
            training.protocol,
            recipe.batch_size,
            lambda batch, seed: {"loss": self._model.objective(batch, seed).loss},
        )
        return float(found["loss"].mean())

    @functools.cached_property
    def test(self) -> dict[str, float]:
        """Means of the variant's metrics over the test set, and how many latents are active."""
        training = self._training
        found = self._over(
            TEST_SPLIT,
            training.tested or training.protocol,
            EVALUATED_AT_ONCE,
            lambda batch, seed: self._model.metrics_per_example(batch, seed, 1),
        )
        means = {metric: float(values.mean()) for metric, values in found.items() if values.ndim == 1}
        if "latent_mean" in found:
            means["active_units"] = float((found["latent_mean"].var(axis=0) > ACTIVE).sum())
        return means

    def _over(
        self, split: str, protocol: str, size: int, function: "Callable[[Batch, Any], dict[str, Any]]"
    ) -> dict[str, Any]:
        """What `function` gives for every example of a split, as NumPy arrays, `size` at a time."""
        import numpy as np
        import tensorflow as tf

        from trainer.binarize import to_images
        from trainer.models.model import Batch

        def step(pixels: Any, labels: Any, seed: Any) -> dict[str, Any]:
            return function(Batch(to_images(pixels, protocol), labels), seed)

        specs = [
            tf.TensorSpec([None, PIXELS], tf.uint8),
            tf.TensorSpec([None], tf.int64),
            tf.TensorSpec([2], tf.int32),
        ]
        graph = tf.function(step, input_signature=specs, autograph=False)
        examples = self._data.examples(split, protocol)
        columns = collections.defaultdict(list)
        for first in range(0, len(examples.labels), size):
            part = (column[first : first + size] for column in examples)
            seed = tf.constant([self._seed, first], tf.int32)
            for name, values in graph(*map(tf.constant, part), seed).items():
                columns[name].append(values.numpy())
        return {name: np.concatenate(parts) for name, parts in columns.items()}


Measure = Callable[[Moment, "Figure"], float]


def running_mean(term: str) -> Measure:
    """Of a training term, over the steps from the figure's `since` to its `step`."""
    return lambda moment, figure: moment.running_mean(term, figure.since)


def loss_over(split: str) -> Measure:
    """The mean training objective over a split: what a batch's loss is in expectation."""
    return lambda moment, figure: moment.loss(split)


def mean_of(metric: str) -> Measure:
    """The mean of a metric over the test set."""
    return lambda moment, figure: moment.test[metric]


def error_rate(moment: Moment, figure: "Figure") -> float:
    """Fraction of the test set that is misclassified."""
    return 1.0 - moment.test["accuracy"]


@dataclasses.dataclass(frozen=True, eq=False)
class Figure:
    """A row of the table.

    Attributes:
      training, step: when it is measured, after that many steps.
      what: the quantity with its unit.
      measure: how.
      accepted: where it has to lie.
      published: nothing, a number, or the least and the greatest of several published ones.
      origin: who published it.
      minus: the same measured of this training is subtracted.
      since: the step after which a running mean begins.
      digits: after the decimal point.
    """

    training: Training
    step: int
    what: str
    measure: Measure
    accepted: Range
    published: tuple[float, ...] = ()
    origin: str = "-"
    minus: Training | None = None
    since: int = 0
    digits: int = 4

    @property
    def key(self) -> str:
        """What the row is called where results are kept."""
        return f"{self.training.variant}: {self.what}"

    @property
    def trainings(self) -> tuple[Training, ...]:
        """What has to be trained for it."""
        return (self.training,) if self.minus is None else (self.training, self.minus)

    def value(self, found: "Mapping[tuple[Training, str, int], float]") -> list[float]:
        """The figure, a number a seed, from what was measured."""
        rows = [
            [found[training, self.key, seed] for seed in self.training.seeds] for training in self.trainings
        ]
        return [first - sum(rest) for first, *rest in zip(*rows, strict=True)]

    def difference(self, value: float) -> float | None:
        """How far a value is from what was published, 0 inside a published range; None without."""
        if not self.published:
            return None
        return value - min(max(value, min(self.published)), max(self.published))


THREE, FIVE = (0, 1, 2), (0, 1, 2, 3, 4)
VAE_DENSE = Training("vae_dense", SOURCE, {**ADAM, "batch_size": 32}, "grey", seeds=THREE)
VAE_DENSE_SOURCE = Training("vae_dense", SOURCE, {**ADAM, "batch_size": 32}, "grey", "threshold")
VAE_DENSE_FIXED = Training("vae_dense", {"objective": "elbo"}, {**ADAM, "batch_size": 32})
VAE_FUNCTIONAL = Training("vae_functional", SOURCE, {**ADAM, "batch_size": 32}, "grey", seeds=THREE)
CVAE = Training("cvae", {}, {"optimizer": "adam", "learning_rate": 1e-4, "batch_size": 32}, seeds=FIVE)
VAE_CONV = Training(
    "vae_conv", SOURCE, {"optimizer": "rmsprop", "learning_rate": 1e-3, "batch_size": 16}, "grey", seeds=THREE
)
M2 = Training("m2", {"labels": 100}, {**ADAM, "batch_size": 100})
HYPERNET = Training(
    "hypernet", {}, {"optimizer": "adam", "learning_rate": 1e-4, "batch_size": 1}, "grey", seeds=FIVE
)
HYPERNET_SCALED = Training("hypernet_scaled", {}, {**ADAM, "batch_size": 128}, seeds=THREE)
HYPERNET_STATIC = Training("hypernet_static", {}, {**ADAM, "batch_size": 128}, seeds=THREE)
MLP_64 = Training("mlp", {"hidden": (64,)}, {**ADAM, "batch_size": 128}, seeds=THREE)
LINEAR = Training("linear", {}, SGD, "grey", seeds=THREE)
MLP = Training("mlp", {"hidden": (32, 32)}, {**ADAM, "batch_size": 64}, "grey", seeds=THREE)
MLP_SPARSE = Training("mlp_sparse", SOURCE, SGD, "grey", seeds=THREE)

TEST_ELBO = mean_of("elbo")
ACCURACY = mean_of("accuracy")
FIXED_STEPS = 12_000
HYPERNET_STEPS = 4_700

FIGURES = (
    Figure(
        VAE_DENSE, 1_001, "mean of the loss over steps 0 to 1,000", running_mean("loss"),
        around(0.0749, 0.00749), (0.0749,), GUIDE,
    ),
    Figure(
        VAE_FUNCTIONAL, EPOCH // 32, "mean of the loss over epoch 1", running_mean("loss"),
        around(0.0713, 0.00713), (0.0713,), GUIDE,
    ),
    *(
        Figure(
            CVAE, epoch * EPOCH // 32, f"test ELBO after epoch {epoch}, nats", TEST_ELBO,
            around(elbo, 3.0), (elbo,), "source's code", digits=2,
        )
        for epoch, elbo in ((1, -178.2), (2, -170.6), (3, -166.7))
    ),
    Figure(
        CVAE, 10 * EPOCH // 32, "test ELBO after epoch 10, nats", TEST_ELBO, Range(low=-156.5), (-155.9,),
        "third party, one run", digits=2,
    ),
    Figure(
        VAE_CONV, EPOCH // 16, "val_loss after epoch 1", loss_over(TEST_SPLIT), around(0.1985, 0.01),
        (0.1985,), "source's code",
    ),
    Figure(
        VAE_CONV, 10 * EPOCH // 16, "val_loss after epoch 10", loss_over(TEST_SPLIT), Range(high=0.182),
        (0.1801,), "third party, best of 10",
    ),
    Figure(
        M2, 30_000, "test error with 100 labels", error_rate, Range(high=0.14), (0.1026, 0.1368),
        "Kingma et al. 2014",
    ),
    Figure(
        HYPERNET, 1_001, "mean of the loss over steps 0 to 1,000, nats", running_mean("loss"),
        Range(0.9 * 1.54, 1.1 * 1.69), (1.54, 1.69), f"{GUIDE}; source's code",
    ),
    Figure(
        LINEAR, 900, "loss at step 900, nats", loss_over(TRAIN_SPLIT), around(1.70, 0.17), (1.63, 1.70), GUIDE
    ),
    Figure(
        MLP, 938 + 801, "running accuracy of epoch 2", running_mean("accuracy"), around(0.942, 0.01),
        (0.942,), GUIDE, since=938,
    ),
    Figure(
        MLP_SPARSE, 900, "loss at step 900, nats", loss_over(TRAIN_SPLIT), around(2.32, 0.05), (2.31, 2.32),
        GUIDE,
    ),
    Figure(
        VAE_DENSE_FIXED, FIXED_STEPS, "fixed: active latents of 32", mean_of("active_units"),
        Range(low=11), digits=0,
    ),
    Figure(
        VAE_DENSE_FIXED, FIXED_STEPS, "fixed: test ELBO above the source's, nats", TEST_ELBO,
        Range(low=20), minus=VAE_DENSE_SOURCE, digits=2,
    ),
    Figure(HYPERNET_SCALED, HYPERNET_STEPS, "test accuracy", ACCURACY, Range(low=0.97)),
    Figure(
        HYPERNET_SCALED, HYPERNET_STEPS, "test accuracy above that of mlp 784-64-10", ACCURACY,
        Range(low=0.0), minus=MLP_64,
    ),
    Figure(
        HYPERNET_STATIC, HYPERNET_STEPS,
        "test accuracy above that of mlp 784-64-10 (Ha et al. 2016: about -0.001, convolutional)", ACCURACY,
        Range(low=-0.01), minus=MLP_64,
    ),
)  # fmt: skip

NOT_MEASURED = (
    ("iwae", "test NLL 86.76 (k=1), 85.54 (k=5), 84.78 (k=50) nats, dynamic, IS-5000 (Burda et al. 2016)",
     "3,280 epochs each, beyond this command's budget"),
    ("ladder", "NLL 79.24 nats with 3 layers of a larger network, static, IS-1000",
     "hours of training on 2 cores"),
    ("hvae", "none", "its source publishes no figure"),
    ("vqvae", "none", "its source publishes no figure"),
    ("aae", "none", "its source publishes no figure"),
    ("mlp_dropout", "none", "its source does not train it"),
)  # fmt: skip
