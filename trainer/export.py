"""A trained model as a SavedModel: networks, transform graph and signatures in one directory.

Images reach a model in one of two forms, and both go through the very graph that Transform used:

examples  string [N]: serialized tf.Examples of the raw data, whose feature `image` holds PIXELS bytes, one
          grey value per pixel, rows from the top. Evaluation and TensorFlow Serving's clients send these.
images    uint8 [N, SIDE, SIDE]: the same grey values as an array.

Image files (PNG, JPEG, GIF) are not decoded. Anything but PIXELS bytes is an InvalidArgumentError that says
what was found.

signature            input                              output                                     family
serving_default      examples                           generative: reconstruction, latents;       all
                                                        classifier: probabilities, label
evaluate             examples                           per-example metrics in nats, [N], [N, D]   all
encode               examples                           latents: float [N, D], posterior means     generative
encode_images        images                             the same                                   generative
reconstruct          examples                           reconstruction: float [N, SIDE, SIDE, 1]   generative
reconstruct_images   images                             the same                                   generative
decode               latents: float [N, D]              images: float [N, SIDE, SIDE, 1]           generative
sample_each          seed: int32 [N]                    images: float [N, SIDE, SIDE, 1]           generative
log_weight_each      examples, seed: int32 [N]          log_weight: float [N], nats                generative
log_weight_images    images, seed: int32 [N]            the same                                   generative
classify             examples                           probabilities: float [N, CLASSES],         classifier
                                                        label: int64 [N]
classify_images      images                             the same                                   classifier
generated_weights    examples                           kernel: float [N, PIXELS, hidden]          hypernets
sample               seed: int32 [], count: int32 []    images: float [count, SIDE, SIDE, 1]       generative
log_weight           examples, seed: int32 []           log_weight: float [N], nats                generative

`log_weights` is a function of the SavedModel but no signature, since its inputs differ in their leading
dimension: (examples [N], seed int32 [], samples int32 []) -> float [samples, N], nats. It encodes an image
once for all samples. Generative models have it.

All inputs and outputs of signatures have the same leading dimension, as servers that batch and REST's row
format want it, but for the last two, which are the forms of 0.1 and leave with 0.3. With a seed per row, a
row's answer does not depend on the rows beside it.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from schemas import IMAGE, LABEL, PIXELS, PIXELS_FEATURE, SIDE
from trainer.binarize import to_images
from trainer.models.model import Batch, Classifier, GenerativeModel, Hypernetwork, Model

Method = Callable[..., dict[str, tf.Tensor]]

EVALUATION_SEED = (0, 0)
EXAMPLES = tf.TensorSpec([None], tf.string, name="examples")
IMAGES = tf.TensorSpec([None, SIDE, SIDE], tf.uint8, name="images")
SEEDS = tf.TensorSpec([None], tf.int32, name="seed")
SEED = tf.TensorSpec([], tf.int32, name="seed")
COUNT = tf.TensorSpec([], tf.int32, name="count")

FILE_MARKS = ((0, b"\x89PNG"), (6, b"JFIF"), (6, b"Exif"), (0, b"GIF8"))
"""Where image files carry the mark of their format, and the mark."""


def export(model: Model, transform_graph: str, directory: str, *, protocol: str, samples: int) -> None:
    """Write `model` to `directory` as a SavedModel with the signatures above.

    transform_graph: folder of Transform's output. samples: K of the importance-weighted bound in `evaluate`.
    """
    servable = Servable(model, transform_graph, protocol, samples)
    if isinstance(model, GenerativeModel):
        specs = (EXAMPLES, SEED, tf.TensorSpec([], tf.int32, name="samples"))
        servable.log_weights = tf.function(servable.log_weights_of, input_signature=specs, autograph=False)
    tf.saved_model.save(servable, directory, signatures=servable.signatures())


class Servable(tf.Module):
    """A model behind its transform graph."""

    def __init__(self, model: Model, transform_graph: str, protocol: str, samples: int) -> None:
        super().__init__()
        self._model = model
        self.state = model.state()  # by its place in this list a warm start finds each variable again
        self._protocol = protocol
        self._samples = samples
        transform = tft.TFTransformOutput(transform_graph)
        self._raw_spec = transform.raw_feature_spec()
        layer = transform.transform_features_layer()
        # A function: a Keras layer as an attribute is traced again when saved, with AutoGraph, for seconds.
        self._transform: Method = lambda raw: layer(raw)

    def signatures(self) -> dict[str, Any]:
        """Return the traced functions of the model's family, by name."""
        model, found = self._model, {"evaluate": _traced(self._evaluate, EXAMPLES)}
        if isinstance(model, Classifier):
            found |= self._of_both_forms("classify", self._classify)
            found["serving_default"] = found["classify"]
        if isinstance(model, Hypernetwork):
            found["generated_weights"] = _traced(self._of_examples(self._generated_weights), EXAMPLES)
        if isinstance(model, GenerativeModel):
            latent = int(model.encode(tf.zeros([1, SIDE, SIDE, 1])).shape[-1])
            found |= self._of_both_forms("encode", self._encode)
            found |= self._of_both_forms("reconstruct", self._reconstruct)
            found["decode"] = _traced(self._decode, tf.TensorSpec([None, latent], name="latents"))
            found["sample_each"] = _traced(self._sample_each, SEEDS)
            found["log_weight_each"] = _traced(self._of_examples(self._log_weight_each), EXAMPLES, SEEDS)
            found["log_weight_images"] = _traced(self._of_arrays(self._log_weight_each), IMAGES, SEEDS)
            found["sample"] = _traced(self._sample, SEED, COUNT)
            found["log_weight"] = _traced(self._of_examples(self._log_weight), EXAMPLES, SEED)
            found["serving_default"] = _traced(self._of_examples(self._serve), EXAMPLES)
        return found

    def _of_both_forms(self, name: str, method: Method) -> dict[str, Any]:
        return {
            name: _traced(self._of_examples(method), EXAMPLES),
            f"{name}_images": _traced(self._of_arrays(method), IMAGES),
        }

    def _of_examples(self, method: Method) -> Method:
        """Return a method of the model's images as one of serialized tf.Examples."""

        def of_examples(examples: tf.Tensor, *more: tf.Tensor) -> dict[str, tf.Tensor]:
            spec = {IMAGE: self._raw_spec[IMAGE]}
            return method(self._inputs(tf.io.parse_example(examples, spec)), *more)

        return of_examples

    def _of_arrays(self, method: Method) -> Method:
        """Return a method of the model's images as one of grey values, uint8 [N, SIDE, SIDE]."""

        def of_arrays(images: tf.Tensor, *more: tf.Tensor) -> dict[str, tf.Tensor]:
            return method(self._inputs({IMAGE: as_bytes(images)}), *more)

        return of_arrays

    def _inputs(self, raw: dict[str, tf.Tensor]) -> tf.Tensor:
        """Return the model's images for raw features."""
        check_images(raw[IMAGE])
        return to_images(self._transform(raw)[PIXELS_FEATURE], self._protocol)

    def _evaluate(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        spec = {name: self._raw_spec[name] for name in (IMAGE, LABEL)}
        raw = tf.io.parse_example(examples, spec)
        batch = Batch(self._inputs(raw), raw[LABEL])
        return self._model.metrics_per_example(batch, tf.constant(EVALUATION_SEED), self._samples)

    def _classify(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = self._model.logits(images)
        return {"probabilities": tf.nn.softmax(logits), "label": tf.argmax(logits, axis=-1)}

    def _generated_weights(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"kernel": self._model.first_kernel(images)}

    def _serve(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = {**self._encode(images), **self._reconstruct(images)}
        return {**outputs, **self._classify(images)} if isinstance(self._model, Classifier) else outputs

    def _encode(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"latents": self._model.encode(images)}

    def _reconstruct(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"reconstruction": self._model.reconstruct(images)}

    def _decode(self, latents: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"images": self._model.decode(latents)}

    def _sample_each(self, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"images": self._model.sample_each(tf.stack([seed, tf.zeros_like(seed)], axis=1))}

    def _log_weight_each(self, images: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        matched = tf.debugging.assert_equal(
            tf.shape(images)[0], tf.size(seed), "there must be one seed per image"
        )

        def one(row: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            image, number = row
            return self._model.log_weight(unlabelled(image[None]), tf.stack([number, 0]))[0]

        with tf.control_dependencies([matched]):  # else the loop may fail first, with a message of its own
            weights = tf.map_fn(one, (images, seed), fn_output_signature=tf.TensorSpec([], tf.float32))
        return {"log_weight": weights}

    def _sample(self, seed: tf.Tensor, count: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"images": self._model.sample(count, tf.stack([seed, 0]))}

    def log_weights_of(self, examples: tf.Tensor, seed: tf.Tensor, samples: tf.Tensor) -> tf.Tensor:
        """Return log p(x, z) - log q(z|x) of `samples` samples per image, [samples, N], in nats."""
        raw = tf.io.parse_example(examples, {IMAGE: self._raw_spec[IMAGE]})
        return self._model.log_weights(unlabelled(self._inputs(raw)), tf.stack([seed, 0]), samples)

    def _log_weight(self, images: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"log_weight": self._model.log_weight(unlabelled(images), tf.stack([seed, 0]))}


def _traced(method: Method, *specs: tf.TensorSpec) -> Any:
    return tf.function(method, input_signature=specs, autograph=False).get_concrete_function()


def unlabelled(images: tf.Tensor) -> Batch:
    """Return a batch of images whose labels are not known, for what does not look at them."""
    return Batch(images, tf.zeros(tf.shape(images)[:1], tf.int64))


def check_images(images: tf.Tensor) -> None:
    """Make the graph raise InvalidArgumentError unless every image, string [N], is PIXELS bytes.

    The message says which image was the first that is not, and what it holds.
    """
    sizes = tf.strings.length(images)
    is_file = tf.zeros_like(sizes, tf.bool)
    for place, mark in FILE_MARKS:
        end = place + len(mark)
        is_file |= tf.strings.substr(tf.where(sizes >= end, images, b" " * end), place, len(mark)) == mark
    expected = f"expected {PIXELS} bytes, one grey value per pixel, rows from the top"
    for wrong, found in (
        (is_file, " of an image file (PNG, JPEG or GIF); decode it first:"),
        (sizes != PIXELS, ";"),
    ):
        first = tf.where(wrong)[:1, 0]
        message = tf.strings.format(
            f"image {{}} of the batch holds {{}} bytes{found} {expected}", (first, tf.gather(sizes, first))
        )
        tf.debugging.Assert(tf.logical_not(tf.reduce_any(wrong)), [message])


def as_bytes(images: tf.Tensor) -> tf.Tensor:
    """Return grey values uint8 [N, SIDE, SIDE] as raw images, string [N] of PIXELS bytes each."""
    every_byte = tf.constant([bytes([value]) for value in range(256)])
    flat = tf.reshape(tf.cast(images, tf.int32), [-1, PIXELS])
    return tf.strings.reduce_join(tf.gather(every_byte, flat), axis=1)
