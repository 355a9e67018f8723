import keras
import tensorflow as tf

from schemas import SIDE
from trainer import variants


def test_the_whole_graph_shares_the_layers_of_its_halves() -> None:
    model = variants.load("vae_functional").build({"hidden": 6, "latent": 4})
    assert isinstance(model.whole, keras.Model)
    halves = [*model.encoder.weights, *model.decoder.weights]
    assert {id(weight) for weight in model.whole.weights} == {id(weight) for weight in halves}
    assert len(model.variables) == len(halves) == 10


def test_the_graph_has_no_randomness_of_its_own() -> None:
    model = variants.load("vae_functional").build({"hidden": 6, "latent": 4})
    images, standard = tf.ones([2, SIDE, SIDE, 1]), tf.ones([2, 4])
    one, other = model.whole([images, standard])[0], model.whole([images, standard])[0]
    tf.debugging.assert_equal(one, other)
