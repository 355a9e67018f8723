"""An Evaluator whose blessing is the gate's: TFMA's demands first, then the verdict over many nights."""

import dataclasses
import datetime
import logging
import os
from collections.abc import Mapping
from typing import Any, ClassVar

import tensorflow_model_analysis as tfma
from tfx import types
from tfx.components.evaluator import constants, executor
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, component_spec, standard_artifacts, standard_component_specs
from tfx.types.system_executions import Evaluate
from tfx.utils import io_utils, json_utils

from components import identity
from components.evaluation import metrics, nights, paired, scores
from components.evaluation.nights import CANDIDATE, GATE
from components.gate.line import refusal
from components.gate.night import Home
from components.gate.noise import Declared
from components.gate.record import Anchor, Limits, Measured, Record, decide
from components.gate.verdict import Difference
from components.serving.pusher import ANCHORS
from components.serving.versions import artifact_name

EARLIER, ANCHOR, REPLACED = "earlier", "anchor", "replaced"
"""Keys of inputs beside TFX's own: the last night's evaluation, the anchors of the era, and what serves where
somebody decided that it is replaced without a comparison."""
FILE = "gate.json"
"""File in an evaluation's folder that holds the night's record."""

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class GateSettings:
    """What the gate has to know of a variant.

    Attributes:
      headlines: metrics that candidates are compared by.
      era: what has to stay the same for nights to be comparable, by name.
      noise: by headline metric, the noise of training that was measured; absent where it was not.
      variants: of the home; the more there are, the later each raises an alarm.
      correlation: of the trainings of successive nights.
      most_detectable: by headline metric, the largest detectable loss that the recipe allows.
      max_gain: by headline metric, the largest gain over production that is believed.
      code: fingerprint of the gate, so that TFX's cache sees it change.
    """

    headlines: tuple[str, ...]
    era: Mapping[str, Any]
    noise: Mapping[str, Declared] = dataclasses.field(default_factory=dict)
    variants: int = 1
    correlation: float = 0.0
    most_detectable: Mapping[str, float] = dataclasses.field(default_factory=dict)
    max_gain: Mapping[str, float] = dataclasses.field(default_factory=dict)
    code: str = ""

    def on(self, examples: types.Artifact) -> "GateSettings":
        """Return the settings for a night on `examples`, which name their data set.

        On a cluster another folder may have been given when the run started; the noise of training was then
        measured on other data.
        """
        expected = str(self.era.get(identity.DATASET, ""))
        found = identity.of_examples(examples, protocol="", dataset=expected).dataset
        if found == expected:
            return self
        noise = {name: dataclasses.replace(each, foreign=True) for name, each in self.noise.items()}
        return dataclasses.replace(self, era={**self.era, identity.DATASET: found}, noise=noise)

    def to_json(self) -> str:
        """Return the settings as an execution property."""
        return str(json_utils.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_json(cls, text: str) -> "GateSettings":
        """Return the settings that `to_json` gave."""
        values = json_utils.loads(text)
        noise = {name: Declared(**each) for name, each in values.pop("noise").items()}
        return cls(**{**values, "headlines": tuple(values["headlines"])}, noise=noise)


class Executor(executor.Executor):
    """Evaluates as TFX does, then lets the gate decide over what TFMA would bless."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Evaluate `model` against `baseline_model`, keep its scores, record the night, and decide."""
        super().Do(input_dict, output_dict, exec_properties)
        candidate = artifact_utils.get_single_instance(input_dict[standard_component_specs.MODEL_KEY])
        evaluation = artifact_utils.get_single_instance(output_dict[standard_component_specs.EVALUATION_KEY])
        blessing = artifact_utils.get_single_instance(output_dict[standard_component_specs.BLESSING_KEY])
        examples = artifact_utils.get_single_instance(input_dict[standard_component_specs.EXAMPLES_KEY])
        settings = GateSettings.from_json(exec_properties[GATE]).on(examples)
        scores.write(scores.measure(candidate, examples), evaluation.uri)
        date = datetime.datetime.now(datetime.UTC).date().isoformat()
        record = _night(input_dict, settings, candidate, evaluation.uri, date)
        blessed = (
            blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY)
            == constants.BLESSED_VALUE
        )
        if blessed and (record.refused or record.alarm):
            _withdraw(blessing)
            blessed = False
        for model in input_dict.get(REPLACED) or []:
            blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_BASELINE_MODEL_URI_KEY, model.uri)
            blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BASELINE_MODEL_ID_KEY, model.id)
        if blessed:
            record = record.anchored_by(Anchor(candidate.id, artifact_name(candidate.uri), date))
        blessing.set_string_custom_property(ANCHORS, "\n".join(each.name for each in record.anchors))
        io_utils.write_string_file(os.path.join(evaluation.uri, FILE), record.to_json())
        evaluation.set_string_custom_property(GATE, record.to_json())
        evaluation.set_int_custom_property(CANDIDATE, candidate.id)


def _night(
    inputs: Mapping[str, list[types.Artifact]],
    settings: GateSettings,
    candidate: types.Artifact,
    evaluation: str,
    date: str,
) -> Record:
    """Return the record of the night, before anybody has looked at the demands."""
    anchors = inputs.get(ANCHOR) or []
    earlier = _earlier(inputs, settings, anchors)
    production = inputs.get(standard_component_specs.BASELINE_MODEL_KEY) or []
    gains = _gains(evaluation, settings) if production else {}
    measured: dict[int, Measured] = {}
    if gains and earlier and earlier.anchors:
        known = {each.model for each in earlier.anchors}
        [examples] = inputs[standard_component_specs.EXAMPLES_KEY]
        measured = paired.measured(
            candidate, [each for each in anchors if each.id in known], examples, settings.headlines
        )
    home = Home(settings.variants, settings.correlation)
    serves = production[0].id if production else 0
    limits = Limits(candidate.id, serves, settings.most_detectable, settings.max_gain)
    return decide(earlier, settings.era, gains, measured, settings.noise, home, date, limits)


def _earlier(
    inputs: Mapping[str, list[types.Artifact]], settings: GateSettings, anchors: list[types.Artifact]
) -> Record | None:
    """Return the record that the night continues; a warning says where an era or an anchor has ended."""
    variant = settings.era["variant"]
    begins = f"{variant}: the gate begins a new era, without earlier nights"
    for evaluation in inputs.get(EARLIER) or []:
        earlier = nights.record(evaluation)
        if dict(earlier.era) != dict(settings.era):
            log.warning("%s: %s", begins, _changed(earlier, settings))
            return earlier
        lost = {each.model for each in earlier.anchors} - {each.id for each in anchors}
        if not lost:
            return earlier
        names = ", ".join(each.name for each in earlier.anchors if each.model in lost)
        left = earlier.without(lost)
        if not left.anchors:
            log.warning("%s: the model that nights were measured from, %s, is gone", begins, names)
        else:
            log.warning(
                "%s: %s, from which nights were measured, is gone; %s remains, with %d nights",
                variant, names, left.anchors[0].name, left.nights,
            )  # fmt: skip
        return left
    for model in anchors:
        made = datetime.datetime.fromtimestamp(
            model.mlmd_artifact.create_time_since_epoch / 1000, datetime.UTC
        )
        anchor = Anchor(model.id, artifact_name(model.uri), made.date().isoformat())
        production = inputs.get(standard_component_specs.BASELINE_MODEL_KEY) or []
        return Record(settings.era, anchor, candidates=tuple(each.id for each in production))
    return None


def _gains(evaluation: str, settings: GateSettings) -> dict[str, Difference]:
    found, images = read_gains(evaluation)
    missing = sorted(set(settings.headlines) - set(found))
    if missing:
        raise ValueError(
            f"the evaluation in {evaluation} has no gain in {', '.join(missing)} over production"
        )
    return {
        name: metrics.difference_between(
            name, found[name][metrics.GAIN_LOWER], found[name][metrics.GAIN_UPPER], images
        )
        for name in settings.headlines
    }


def read_gains(evaluation: str) -> tuple[dict[str, dict[str, float]], int]:
    """Read the paired gains over production, by headline metric and ending, and the images of the test split.

    Empty where there was no production.
    """
    found: dict[str, dict[str, float]] = {}
    images = 0
    for slice_metrics in tfma.load_metrics(evaluation):
        if slice_metrics.slice_key.single_slice_keys:
            continue
        for item in slice_metrics.metric_keys_and_values:
            value = item.value.double_value.value
            if item.key.name == metrics.IMAGES and not item.key.is_diff:
                images = int(value)
            for ending in (metrics.GAIN, metrics.GAIN_LOWER, metrics.GAIN_UPPER):
                headline = item.key.name.removesuffix(f"_{ending}")
                if item.key.is_diff and headline != item.key.name:
                    found.setdefault(headline, {})[ending] = value
    return found, images


def _changed(earlier: Record, settings: GateSettings) -> str:
    """What is not as it was, as `profile quick (before: smoke)`."""
    names = sorted({*earlier.era, *settings.era})
    return ", ".join(
        f"{name} {settings.era.get(name)} (before: {earlier.era.get(name)})"
        for name in names
        if settings.era.get(name) != earlier.era.get(name)
    )


def _withdraw(blessing: types.Artifact) -> None:
    """Turn TFMA's blessing into a refusal, in the folder and in the artifact."""
    fileio.remove(os.path.join(blessing.uri, constants.BLESSED_FILE_NAME))
    io_utils.write_string_file(os.path.join(blessing.uri, constants.NOT_BLESSED_FILE_NAME), "")
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, constants.NOT_BLESSED_VALUE)


def record_of(evaluation: str) -> Record | None:
    """Read the gate's record in an evaluation's folder; None in evaluations of version 0.1."""
    path = os.path.join(evaluation, FILE)
    if not fileio.exists(path):
        return None
    with fileio.open(path) as file:
        return Record.from_json(file.read())


def refused_because(evaluation: str) -> str:
    """Return why the gate refused the candidate of an evaluation, beside the demands; empty if it did not."""
    record = record_of(evaluation)
    return refusal(record) if record else ""


class GatedEvaluatorSpec(component_spec.ComponentSpec):
    """TFX's Evaluator with the record of the night before, the anchor and the gate's settings."""

    PARAMETERS: ClassVar = {
        standard_component_specs.EVAL_CONFIG_KEY: component_spec.ExecutionParameter(type=tfma.EvalConfig),
        standard_component_specs.EXAMPLE_SPLITS_KEY: component_spec.ExecutionParameter(type=str),
        GATE: component_spec.ExecutionParameter(type=str),
    }
    INPUTS: ClassVar = {
        standard_component_specs.EXAMPLES_KEY: component_spec.ChannelParameter(
            type=standard_artifacts.Examples
        ),
        standard_component_specs.MODEL_KEY: component_spec.ChannelParameter(type=standard_artifacts.Model),
        standard_component_specs.BASELINE_MODEL_KEY: component_spec.ChannelParameter(
            type=standard_artifacts.Model, optional=True
        ),
        REPLACED: component_spec.ChannelParameter(type=standard_artifacts.Model, optional=True),
        EARLIER: component_spec.ChannelParameter(type=standard_artifacts.ModelEvaluation, optional=True),
        ANCHOR: component_spec.ChannelParameter(type=standard_artifacts.Model, optional=True),
    }
    OUTPUTS: ClassVar = {
        standard_component_specs.EVALUATION_KEY: component_spec.ChannelParameter(
            type=standard_artifacts.ModelEvaluation
        ),
        standard_component_specs.BLESSING_KEY: component_spec.ChannelParameter(
            type=standard_artifacts.ModelBlessing
        ),
    }
    TYPE_ANNOTATION = Evaluate


class GatedEvaluator(base_beam_component.BaseBeamComponent):
    """Evaluates a candidate, judges it by many nights, and blesses it or does not."""

    SPEC_CLASS = GatedEvaluatorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(
        self,
        examples: types.BaseChannel,
        model: types.BaseChannel,
        baseline_model: types.BaseChannel,
        replaced: types.BaseChannel,
        earlier: types.BaseChannel,
        anchor: types.BaseChannel,
        eval_config: tfma.EvalConfig,
        gate: GateSettings,
    ) -> None:
        super().__init__(
            GatedEvaluatorSpec(
                examples=examples,
                model=model,
                baseline_model=baseline_model,
                replaced=replaced,
                earlier=earlier,
                anchor=anchor,
                eval_config=eval_config,
                example_splits=json_utils.dumps(None),
                gate=gate.to_json(),
                evaluation=types.Channel(type=standard_artifacts.ModelEvaluation),
                blessing=types.Channel(type=standard_artifacts.ModelBlessing),
            )
        )
