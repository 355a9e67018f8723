"""A trained model as a SavedModel: networks, transform graph and signatures in one directory.

Every signature that takes images takes serialized tf.Examples of the raw data, so that serving and evaluation
go through the very graph that Transform used.

signature         input                         output                                        family
serving_default   examples: string [B]          generative: reconstruction, latents;          all
                                                classifier: probabilities, label
evaluate          examples: string [B]          per-example metrics in nats, [B] or [B, D]    all
encode            examples: string [B]          latents: float [B, D], posterior means        generative
reconstruct       examples: string [B]          reconstruction: float [B, SIDE, SIDE, 1]      generative
decode            latents: float [B, D]         images: float [B, SIDE, SIDE, 1]              generative
sample            seed: int32 [], count: int32 []   images: float [count, SIDE, SIDE, 1]      generative
generated_weights  examples: string [B]   kernel: float [B, PIXELS, hidden]            hypernetworks
log_weight        examples: string [B], seed: int32 []   log_weight: float [B], nats            generative
classify          examples: string [B]          probabilities: float [B, CLASSES], label: int64   classifier
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from schemas import IMAGE, LABEL, PIXELS_FEATURE, SIDE
from trainer.binarize import to_images
from trainer.models.model import Batch, Classifier, GenerativeModel, Hypernetwork, Model

EVALUATION_SEED = (0, 0)
EXAMPLES = tf.TensorSpec([None], tf.string, name="examples")


def export(model: Model, transform_graph: str, directory: str, *, protocol: str, samples: int) -> None:
    """Write `model` to `directory` as a SavedModel with the signatures above.

    transform_graph: folder of Transform's output. samples: K of the importance-weighted bound in `evaluate`.
    """
    servable = Servable(model, transform_graph, protocol, samples)
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
        self._transform = transform.transform_features_layer()

    def signatures(self) -> dict[str, Any]:
        """Name -> traced function, as the model's family has it."""
        model, found = self._model, {"evaluate": self._traced(self._evaluate, EXAMPLES)}
        if isinstance(model, Classifier):
            found["classify"] = self._traced(self._classify, EXAMPLES)
            found["serving_default"] = found["classify"]
        if isinstance(model, Hypernetwork):
            found["generated_weights"] = self._traced(self._generated_weights, EXAMPLES)
        if isinstance(model, GenerativeModel):
            latent = int(model.encode(tf.zeros([1, SIDE, SIDE, 1])).shape[-1])
            found["encode"] = self._traced(self._encode, EXAMPLES)
            found["reconstruct"] = self._traced(self._reconstruct, EXAMPLES)
            found["decode"] = self._traced(self._decode, tf.TensorSpec([None, latent], name="latents"))
            found["sample"] = self._traced(
                self._sample,
                tf.TensorSpec([], tf.int32, name="seed"),
                tf.TensorSpec([], tf.int32, name="count"),
            )
            found["log_weight"] = self._traced(
                self._log_weight, EXAMPLES, tf.TensorSpec([], tf.int32, name="seed")
            )
            found["serving_default"] = self._traced(self._serve, EXAMPLES)
        return found

    def _traced(self, method: Callable[..., dict[str, tf.Tensor]], *specs: tf.TensorSpec) -> Any:
        return tf.function(method, input_signature=specs, autograph=False).get_concrete_function()

    def _images(self, examples: tf.Tensor) -> tf.Tensor:
        spec = {IMAGE: self._raw_spec[IMAGE]}
        return self._inputs(self._transform(tf.io.parse_example(examples, spec)))

    def _inputs(self, features: dict[str, tf.Tensor]) -> tf.Tensor:
        return to_images(features[PIXELS_FEATURE], self._protocol)

    def _evaluate(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        seed = tf.constant(EVALUATION_SEED)
        return self._model.metrics_per_example(self._batch(examples), seed, self._samples)

    def _batch(self, examples: tf.Tensor) -> Batch:
        spec = {name: self._raw_spec[name] for name in (IMAGE, LABEL)}
        features = self._transform(tf.io.parse_example(examples, spec))
        return Batch(self._inputs(features), features[LABEL])

    def _log_weight(self, examples: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"log_weight": self._model.log_weight(self._batch(examples), tf.stack([seed, 0]))}

    def _classify(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = self._model.logits(self._images(examples))
        return {"probabilities": tf.nn.softmax(logits), "label": tf.argmax(logits, axis=-1)}

    def _generated_weights(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"kernel": self._model.first_kernel(self._images(examples))}

    def _serve(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        images = self._images(examples)
        outputs = {"latents": self._model.encode(images), "reconstruction": self._model.reconstruct(images)}
        return {**outputs, **self._classify(examples)} if isinstance(self._model, Classifier) else outputs

    def _encode(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"latents": self._model.encode(self._images(examples))}

    def _reconstruct(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"reconstruction": self._model.reconstruct(self._images(examples))}

    def _decode(self, latents: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"images": self._model.decode(latents)}

    def _sample(self, seed: tf.Tensor, count: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"images": self._model.sample(count, tf.stack([seed, 0]))}
