"""A variant whose quality is made to order, in a pipeline that trains nothing: for tests of many nights."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_model_analysis as tfma
from tfx import v1 as tfx
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.common.resolver import Resolver
from tfx.orchestration.pipeline import Pipeline
from tfx.types import standard_artifacts
from tfx.types.channel import Channel

from components import identity
from components.evaluation.baseline import ServingBaseline
from components.evaluation.eval_config import Demands, eval_config
from components.evaluation.gated import GatedEvaluator, GateSettings
from components.evaluation.metrics import LATENTS, MEANS
from components.evaluation.nights import DECISIONS, EarlierNight
from components.evaluation.paired import SIGNATURE
from components.identity import Identity
from components.serving.publication import SIGNATURE as SERVING
from components.serving.pusher import KEEP, AtomicPusher
from components.validation.comparable import ComparisonGate
from pipeline.home import metadata
from pipeline.home.layout import Home
from pipeline.pipeline import decided
from schemas import CLASSES, LABEL, TEST_SPLIT

VARIANT = "mlp"
NUMBER = "number"
TOYS = Identity("toys", "threshold")
JOB = {"variant": VARIANT, "dataset": TOYS.dataset, "protocol": TOYS.protocol, "seed": 0}


class Toy(tf.Module):
    """A model whose quality is made to order.

    As a classifier it is right on the examples whose number is at least `wrong`; as a generative model it has
    the ELBO `elbo` on all examples, and one latent unit, which is active or not.
    """

    def __init__(self, wrong: int, elbo: float = -100.0, active: bool = True) -> None:
        super().__init__()
        self.wrong = tf.Variable(wrong, dtype=tf.int64)
        self.elbo = tf.Variable(elbo)
        self.active = tf.Variable(float(active))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def evaluate(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        spec = {NUMBER: tf.io.FixedLenFeature([], tf.int64, default_value=0)}
        number = tf.io.parse_example(examples, spec)[NUMBER]
        right = tf.cast(number >= self.wrong, tf.float32)
        elbo = tf.fill(tf.shape(right), self.elbo.value())
        latent = self.active * tf.cast(number % 7, tf.float32)
        return {
            "accuracy": right, "cross_entropy": 1.0 - right, LATENTS: latent[:, None],
            **{name: elbo for name in MEANS["generative"]},
        }  # fmt: skip

    def save(self, folder: str) -> None:
        """Save as a SavedModel that can be evaluated and served."""
        tf.saved_model.save(self, folder, signatures={SIGNATURE: self.evaluate, SERVING: self.evaluate})


def write_examples(folder: pathlib.Path, labels: list[int]) -> None:
    """Write examples with these labels, numbered, as the test split."""
    split = folder / f"Split-{TEST_SPLIT}"
    split.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(split / "data-00000-of-00001.gz"), "GZIP") as writer:
        for number, label in enumerate(labels):
            example = tf.train.Example()
            example.features.feature[NUMBER].int64_list.value.append(number)
            example.features.feature[LABEL].int64_list.value.append(label)
            writer.write(example.SerializeToString())


@component
def Toys(
    examples: InputArtifact[standard_artifacts.Examples],
    model: OutputArtifact[standard_artifacts.Model],
    quality: Parameter[str],
    custom_config: Parameter[str],
) -> None:
    """Give a Toy as a trainer gives a model. quality: JSON, the arguments of the Toy."""
    Toy(**json.loads(quality)).save(f"{model.uri}/Format-Serving")


@component
def Images(
    examples: OutputArtifact[standard_artifacts.Examples],
    labels: Parameter[str],
    dataset: Parameter[str],
    image_shape: Parameter[str],
    classes: Parameter[int],
) -> None:
    """Give a test split with these labels, as JSON, and say what it is as IdxExampleGen does."""
    examples.split_names = json.dumps([TEST_SPLIT])
    examples.set_string_custom_property(identity.DATASET, dataset)
    examples.set_string_custom_property(identity.IMAGE_SHAPE, image_shape)
    examples.set_int_custom_property(identity.CLASS_COUNT, classes)
    write_examples(pathlib.Path(examples.uri), json.loads(labels))


def balanced(images: int) -> list[int]:
    """Return labels of so many examples, equally many of each class."""
    return [number % CLASSES for number in range(images)]


def quick_config() -> tfma.EvalConfig:
    """The demands on a classifier, without slices, which the gate does not read."""
    config = eval_config("classifier", Demands(floor=0.1), "code")
    del config.slicing_specs[1:]
    return config


def pipeline(
    home: Home,
    wrong: int,
    gate: GateSettings,
    labels: Sequence[int] = tuple(balanced(200)),
    keep: int = 0,
    trained_on: Identity = TOYS,
    new_era: bool = False,
    config: tfma.EvalConfig | None = None,
    **quality: Any,
) -> Pipeline:
    """The line of one variant whose candidate is wrong on the first so many images, with these labels.

    quality: of the Toy, beside that.
    """
    serving = str(home.versions(VARIANT))
    facts = {name: value for name, value in dataclasses.asdict(trained_on).items() if name != "protocol"}
    data = Images(labels=json.dumps(list(labels)), **facts).with_id("IdxExampleGen")
    comparison = ComparisonGate(
        examples=data.outputs["examples"],
        serving=str(home.serving),
        protocols=json.dumps({VARIANT: trained_on.protocol}),
        new_era=int(new_era),
    )
    job = {**JOB, "protocol": trained_on.protocol}
    trainer = Toys(
        examples=data.outputs["examples"],
        quality=json.dumps({"wrong": wrong, **quality}),
        custom_config=json.dumps({"job": job}),
    ).with_id(f"Trainer.{VARIANT}")
    trainer.add_upstream_node(comparison)
    models = Channel(type=standard_artifacts.Model, producer_component_id=trainer.id)
    baseline = Resolver(
        strategy_class=ServingBaseline,
        config={"serving": serving, "new_era": int(new_era)},
        candidate=trainer.outputs["model"],
        model=models,
        replaced=models,
        blessing=Channel(type=standard_artifacts.ModelBlessing),
    ).with_id(f"Resolver.{VARIANT}")
    night = Resolver(
        strategy_class=EarlierNight,
        config={"serving": serving, "job": json.dumps(JOB)},
        candidate=trainer.outputs["model"],
        evaluation=Channel(
            type=standard_artifacts.ModelEvaluation, producer_component_id=f"Evaluator.{VARIANT}"
        ),
        model=models,
        **{word: decided(word, VARIANT) for word in DECISIONS},
    ).with_id(f"Resolver.night.{VARIANT}")
    evaluator = GatedEvaluator(
        examples=data.outputs["examples"],
        model=trainer.outputs["model"],
        baseline_model=baseline.outputs["model"],
        replaced=baseline.outputs["replaced"],
        earlier=night.outputs["evaluation"],
        anchor=night.outputs["model"],
        gate=gate,
        eval_config=config or quick_config(),
    ).with_id(f"Evaluator.{VARIANT}")
    pusher = AtomicPusher(
        model=trainer.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        push_destination=tfx.proto.PushDestination(
            filesystem=tfx.proto.PushDestination.Filesystem(base_directory=serving)
        ),
        custom_config={KEEP: keep},
    ).with_id(f"Pusher.{VARIANT}")
    return Pipeline(
        "latentline",
        str(home.artifacts),
        components=[data, comparison, trainer, baseline, night, evaluator, pusher],
        enable_cache=True,
        metadata_connection_config=metadata.connection(home),
    )
