"""Signatures as servers and clients call them: both forms of images, request shapes, and wrong inputs."""

import base64
import io
import json
import pathlib
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_server import answered_by_grpc, answered_by_rest
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import predict_pb2

from components.ingest.idx import Images
from schemas import CLASSES, IMAGE, PIXELS, SIDE, TRAIN_SPLIT
from trainer import variants
from trainer.export import export
from trainer.loop import data
from trainer.loop.fit import fit

CONFIG = {"labels": 10, "labelled_batch": 10, "hidden": 8, "latent": 2}


@pytest.fixture(scope="module")
def arrays(digits: dict[str, Images]) -> Any:
    return digits[TRAIN_SPLIT].images[:5].reshape(-1, SIDE, SIDE)


@pytest.fixture(scope="module")
def exported(
    digits: dict[str, Images], transform_graph: str, tmp_path_factory: pytest.TempPathFactory
) -> pathlib.Path:
    """The SavedModel of a model that is generative and classifies."""
    images, labels = digits[TRAIN_SPLIT]
    variant = variants.load("m2")
    keras.utils.set_random_seed(0)
    model = variant.build(CONFIG)
    examples = data.Examples((images.reshape(-1, PIXELS) > 127).astype(np.uint8), labels.astype(np.int64))
    fit(model, examples, recipe=variant.recipe, steps=3, protocol="threshold", seed=0, name="m2")
    folder = tmp_path_factory.mktemp("export")
    export(model, transform_graph, str(folder), protocol="threshold", samples=2)
    return folder


@pytest.fixture(scope="module")
def signatures(exported: pathlib.Path) -> Any:
    loaded = tf.saved_model.load(str(exported))
    return dict(loaded.signatures.items()) | {"keep": loaded}


def test_no_keras_layer_is_saved_since_keras_would_trace_it_once_more(exported: pathlib.Path) -> None:
    saved = saved_model_pb2.SavedModel.FromString((exported / "saved_model.pb").read_bytes())
    [graph] = saved.meta_graphs
    kinds = {node.user_object.identifier for node in graph.object_graph_def.nodes}
    assert "signature_map" in kinds
    assert not [kind for kind in kinds if "keras" in kind]


def example(content: bytes) -> bytes:
    found = tf.train.Example()
    found.features.feature[IMAGE].bytes_list.value.append(content)
    return found.SerializeToString()


def examples_of(arrays: Any) -> Any:
    return tf.constant([example(image.tobytes()) for image in arrays])


@pytest.mark.parametrize("name", ["encode", "reconstruct", "classify"])
def test_arrays_are_answered_as_the_examples_of_the_same_images(
    signatures: Any, arrays: Any, name: str
) -> None:
    of_arrays = signatures[f"{name}_images"](images=tf.constant(arrays))
    of_examples = signatures[name](examples=examples_of(arrays))
    assert of_arrays.keys() == of_examples.keys()
    for output, value in of_arrays.items():
        np.testing.assert_array_equal(value, of_examples[output])


def test_every_grey_value_survives_the_way_through_an_array(signatures: Any) -> None:
    ramp = np.arange(PIXELS).reshape(1, SIDE, SIDE).astype(np.uint8)
    found = signatures["encode_images"](images=tf.constant(ramp))["latents"]
    np.testing.assert_array_equal(found, signatures["encode"](examples=examples_of(ramp))["latents"])


def test_a_weight_depends_on_its_own_image_and_seed_alone(signatures: Any, arrays: Any) -> None:
    seeds = tf.constant([7, 8, 9, 10, 11])
    together = signatures["log_weight_each"](examples=examples_of(arrays), seed=seeds)["log_weight"]
    np.testing.assert_allclose(
        signatures["log_weight_images"](images=tf.constant(arrays), seed=seeds)["log_weight"], together
    )
    for place, seed in enumerate(seeds):
        alone = examples_of(arrays[place : place + 1])
        scalar = signatures["log_weight"](examples=alone, seed=seed)["log_weight"]
        np.testing.assert_allclose(together[place], scalar[0], rtol=1e-5)


def test_samples_of_a_model_with_classes_are_of_many_classes(signatures: Any) -> None:
    made = signatures["sample_each"](seed=tf.range(40))["images"].numpy()
    assert made.shape == (40, SIDE, SIDE, 1)
    assert len({image.tobytes() for image in made}) == 40


@pytest.mark.parametrize("name", ["encode", "reconstruct", "classify", "evaluate", "serving_default"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bytes(PIXELS * 4), "image [1] of the batch holds [3136] bytes; expected 784 bytes, one grey value"),
        (b"", "image [1] of the batch holds [0] bytes"),
        (bytes(PIXELS - 1), "holds [783] bytes"),
        (b"\x89PNG\r\n\x1a\n" + bytes(PIXELS - 8), "of an image file (PNG, JPEG or GIF); decode it first"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(300), "of an image file (PNG, JPEG or GIF)"),
    ],
)
def test_bytes_that_are_no_image_are_refused_by_number_and_size(
    signatures: Any, arrays: Any, name: str, content: bytes, message: str
) -> None:
    wrong = []
    for image in (arrays[0].tobytes(), content, arrays[1].tobytes()):
        found = tf.train.Example.FromString(example(image))
        found.features.feature["label"].int64_list.value.append(0)
        wrong.append(found.SerializeToString())
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        signatures[name](examples=tf.constant(wrong))
    assert message in str(error.value)


def test_a_file_of_the_right_picture_is_refused_as_a_file(signatures: Any, arrays: Any) -> None:
    buffer = io.BytesIO()
    Image.fromarray(arrays[0]).save(buffer, "PNG")
    with pytest.raises(tf.errors.InvalidArgumentError, match="of an image file"):
        signatures["classify"](examples=tf.constant([example(buffer.getvalue())]))


def test_seeds_that_are_not_one_per_image_are_refused(signatures: Any, arrays: Any) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="one seed per image"):
        signatures["log_weight_images"](images=tf.constant(arrays), seed=tf.constant([1, 2]))


def test_no_seeds_get_no_samples(signatures: Any) -> None:
    assert signatures["sample_each"](seed=tf.constant([], tf.int32))["images"].shape == [0, SIDE, SIDE, 1]


def test_a_predict_request_is_answered(signatures: Any, arrays: Any) -> None:
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = "classify_images"
    request.inputs["images"].CopyFrom(tf.make_tensor_proto(arrays))
    answer = answered_by_grpc(signatures, request)
    assert tf.make_ndarray(answer.outputs["probabilities"]).shape == (5, CLASSES)


@pytest.mark.parametrize("name", ["classify", "encode", "serving_default"])
def test_a_rest_body_of_encoded_examples_is_answered_by_row(signatures: Any, arrays: Any, name: str) -> None:
    rows = [{"b64": base64.b64encode(example(image.tobytes())).decode()} for image in arrays]
    body = json.dumps({"signature_name": name, "instances": rows})
    answers = answered_by_rest(signatures, body)
    direct = signatures[name](examples=examples_of(arrays))
    for output, value in direct.items():
        np.testing.assert_allclose([answer[output] for answer in answers], value, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("classify_images", lambda image, seed: image.tolist()),
        ("encode_images", lambda image, seed: {"images": image.tolist()}),
        ("sample_each", lambda image, seed: seed),
        ("log_weight_images", lambda image, seed: {"images": image.tolist(), "seed": seed}),
    ],
)
def test_a_rest_body_of_arrays_and_seeds_is_answered_by_row(
    signatures: Any, arrays: Any, name: str, row: Any
) -> None:
    rows = [row(image, seed) for seed, image in enumerate(arrays)]
    answers = answered_by_rest(signatures, json.dumps({"signature_name": name, "instances": rows}))
    assert len(answers) == len(arrays)


def test_all_signatures_but_those_of_0_1_have_a_leading_dimension(signatures: Any) -> None:
    for name, signature in signatures.items():
        if name == "keep":
            continue
        ranks = [spec.shape.rank for spec in signature.structured_input_signature[1].values()]
        assert (min(ranks) == 0) == (name in ("sample", "log_weight")), name
