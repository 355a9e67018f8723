"""The pipeline: data prepared once, then every experiment trained, evaluated, compared and pushed."""

import json
import os
from collections.abc import Sequence

from tfx.components.example_validator.component import ExampleValidator
from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
from tfx.components.statistics_gen.component import StatisticsGen
from tfx.components.trainer.component import Trainer
from tfx.components.transform.component import Transform
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common.resolver import Resolver
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import pusher_pb2, trainer_pb2
from tfx.types import standard_artifacts
from tfx.types.channel import Channel, union

from components.evaluation.baseline import ProductionBefore, ServingBaseline
from components.evaluation.eval_config import Demands, eval_config, headlines
from components.evaluation.gated import GatedEvaluator, GateSettings
from components.evaluation.nights import BY_PERSONS, DECISIONS, EarlierNight
from components.gate.correlation import ASSUMED
from components.gate.noise import Declared
from components.ingest.example_gen import IdxExampleGen
from components.ingest.formats import Reading
from components.ingest.sources import Dataset
from components.reporting.gallery import Gallery
from components.reporting.leaderboard import LatestOtherReport, Leaderboard, Report
from components.reporting.report_page import version
from components.serving.pusher import KEEP, AtomicPusher
from components.validation import plausibility
from components.validation.anomaly_gate import AnomalyGate
from components.validation.comparable import ComparisonGate
from components.validation.drift import AcceptedData, DriftGate, DriftValidator, EarlierStatistics
from pipeline.config.experiments import Trial
from pipeline.config.settings import MAX_GAIN, Settings
from pipeline.dag.fingerprint import file_fingerprint, fingerprint, trainer_code, versioned
from pipeline.dag.partial import NOTHING
from pipeline.dag.target import Target, local
from pipeline.home.layout import Home
from schemas import CLASSES, SCHEMA_FILE, SIDE
from trainer import spread, variants
from trainer.job import Job


def create_pipeline(settings: Settings, dataset: Dataset, target: Target | None = None) -> Pipeline:
    """The pipeline of one run. settings: what to train; dataset: where its images lie; target: where it runs.

    Without a target it runs on this machine, under the settings' home. The data is read once, and transformed
    once per protocol.
    """
    target = target or local(Home.of(settings.home), settings.beam_arguments)
    trials = settings.trials
    protocols = list(dict.fromkeys(trial.protocol for trial in trials))
    example_gen = versioned(
        IdxExampleGen(
            dataset.folder,
            settings.spans,
            settings.pixels,
            settings_reading(settings).choices,
            dataset.name,
            dataset.named,
        ),
        fingerprint("components.ingest.example_gen"),
    )
    comparison = versioned(
        ComparisonGate(
            examples=example_gen.outputs["examples"],
            serving=target.serving,
            protocols=json.dumps({trial.name: trial.protocol for trial in trials}, sort_keys=True),
            new_era=int(settings.new_era),
        ),
        fingerprint("components.validation.comparable"),
    )
    schema_gen = versioned(ImportSchemaGen(schema_file=target.schema), file_fingerprint(SCHEMA_FILE))
    statistics_gen = StatisticsGen(example_gen.outputs["examples"], schema=schema_gen.outputs["schema"])
    statistics_gen.add_upstream_node(comparison)
    validator = ExampleValidator(
        statistics_gen.outputs["statistics"],
        schema_gen.outputs["schema"],
        custom_validation_config=plausibility.config(*protocols),
    )
    gate = versioned(
        AnomalyGate(
            anomalies=validator.outputs["anomalies"], statistics=statistics_gen.outputs["statistics"]
        ),
        fingerprint("components.validation.anomaly_gate"),
    )
    watch = DataWatch(settings, example_gen, statistics_gen, schema_gen, gate)
    transforms = {
        protocol: transform_of(protocol, settings, example_gen, schema_gen, watch) for protocol in protocols
    }
    shared = [example_gen, comparison, statistics_gen, schema_gen, validator, gate, *transforms.values()]
    shared += watch.nodes

    lines = [
        Line(trial, dataset, example_gen, transforms[trial.protocol], target.serving, settings)
        for trial in trials
    ]
    pushes = [line.pusher.outputs["pushed_model"] for line in lines if line.pusher]
    runs = union([line.trainer.outputs["model_run"] for line in lines])
    resolver = Resolver(strategy_class=LatestOtherReport, runs=runs, report=Channel(type=Report))
    leaderboard = versioned(
        Leaderboard(
            runs=runs,
            models=union([line.trainer.outputs["model"] for line in lines]),
            evaluations=union([line.evaluator.outputs["evaluation"] for line in lines]),
            blessings=union([line.evaluator.outputs["blessing"] for line in lines]),
            galleries=union([line.gallery.outputs["gallery"] for line in lines]),
            examples=example_gen.outputs["examples"],
            statistics=statistics_gen.outputs["statistics"],
            anomalies=validator.outputs["anomalies"],
            drift=watch.validator.outputs["anomalies"],
            previous=resolver.with_id("Resolver.report").outputs["report"],
            templates=version(),
            failed=NOTHING,
            serving=target.serving,
            described=described(trials),
            source=dataset.folder,
            reading=json.dumps(settings_reading(settings)._asdict(), sort_keys=True),
            **({"pushes": union(pushes)} if pushes else {}),
        ),
        fingerprint("components.reporting.leaderboard"),
    )
    return Pipeline(
        pipeline_name=settings.name,
        pipeline_root=target.root,
        components=target.with_beam_arguments(
            [*shared, *(node for line in lines for node in line.nodes), resolver, leaderboard]
        ),
        enable_cache=True,
        metadata_connection_config=target.metadata,
    )


def settings_reading(settings: Settings) -> Reading:
    """Return how the files of the data are read."""
    return Reading(settings.pixels, settings.subset, settings.resize, settings.scale)


def transform_of(
    protocol: str,
    settings: Settings,
    example_gen: IdxExampleGen,
    schema_gen: ImportSchemaGen,
    watch: "DataWatch",
) -> Transform:
    """Return the node that prepares the images for a protocol; that of the settings' own has TFX's name."""
    transform = Transform(
        examples=example_gen.outputs["examples"],
        schema=schema_gen.outputs["schema"],
        preprocessing_fn="trainer.transform.preprocessing_fn",
        custom_config={"protocol": protocol, "code": fingerprint("trainer.transform")},
        disable_statistics=True,
    )
    transform.add_upstream_node(watch.gate)
    return transform if protocol == settings.protocol else transform.with_id(f"Transform-{protocol}")


def described(trials: Sequence[Trial]) -> str:
    """Return what the report says of each trial besides its results, as JSON, by its name."""
    found = {}
    for trial in trials:
        variant = variants.load(trial.variant)
        found[trial.name] = {
            "variant": trial.variant, "experiment": trial.experiment, "seed": trial.seed,
            "family": variant.family, "summary": variant.summary,
        }  # fmt: skip
    return json.dumps(found, sort_keys=True)


class DataWatch:
    """The nodes that compare new data with the last accepted data and with serving data, and stop drift."""

    def __init__(
        self,
        settings: Settings,
        example_gen: IdxExampleGen,
        statistics_gen: StatisticsGen,
        schema_gen: ImportSchemaGen,
        upstream: BaseNode,
    ) -> None:
        statistics = statistics_gen.outputs["statistics"]
        resolver = Resolver(
            strategy_class=EarlierStatistics,
            examples=example_gen.outputs["examples"],
            statistics=statistics,
            previous=Channel(
                type=standard_artifacts.ExampleStatistics, producer_component_id=statistics_gen.id
            ),
            accepted=Channel(type=AcceptedData),
        ).with_id("Resolver.statistics")
        self.validator = versioned(
            DriftValidator(
                statistics=statistics,
                schema=schema_gen.outputs["schema"],
                previous=resolver.outputs["previous"],
                serving_data=settings.serving_data,
            ),
            fingerprint("components.validation.drift"),
        )
        self.gate = DriftGate(
            statistics=statistics, anomalies=self.validator.outputs["anomalies"], action=settings.drift
        )
        self.gate.add_upstream_node(upstream)
        self.nodes = [resolver, self.validator, self.gate]


class Line:
    """The nodes of one trial: train, make pictures, find the baseline, evaluate against it, push."""

    def __init__(
        self,
        trial: Trial,
        dataset: Dataset,
        example_gen: IdxExampleGen,
        transform: Transform,
        serving: str,
        settings: Settings,
    ) -> None:
        name, job = trial.name, trial.job(dataset.name, settings.profile)
        variant = variants.load(job.variant)
        recipe = variant.recipe.with_overrides(job.recipe)
        bases = [base(name, transform)] if settings.warm_start else []
        self.trainer = Trainer(
            run_fn="trainer.run.run_fn",
            examples=transform.outputs["transformed_examples"],
            transform_graph=transform.outputs["transform_graph"],
            custom_config={
                "job": job.to_dict(),
                "code": trainer_code(job.variant),
                **({"warm_start": True} if bases else {}),
            },
            **({"base_model": bases[0].outputs["model"]} if bases else {}),
            train_args=trainer_pb2.TrainArgs(),
            eval_args=trainer_pb2.EvalArgs(),
        ).with_id(f"Trainer.{name}")
        self.resolver = Resolver(
            strategy_class=ServingBaseline,
            config={"serving": os.path.join(serving, name), "new_era": int(settings.new_era)},
            candidate=self.trainer.outputs["model"],
            model=Channel(type=standard_artifacts.Model, producer_component_id=self.trainer.id),
            replaced=Channel(type=standard_artifacts.Model, producer_component_id=self.trainer.id),
            blessing=Channel(type=standard_artifacts.ModelBlessing),
        ).with_id(f"Resolver.{name}")
        gallery = Gallery(
            model=self.trainer.outputs["model"],
            run=self.trainer.outputs["model_run"],
            examples=example_gen.outputs["examples"],
            production=self.resolver.outputs["model"],
        ).with_id(f"Gallery.{name}")
        self.gallery = versioned(gallery, fingerprint("components.reporting.gallery"))
        night = Resolver(
            strategy_class=EarlierNight,
            config={"serving": os.path.join(serving, name), "job": json.dumps(job.to_dict(), sort_keys=True)},
            candidate=self.trainer.outputs["model"],
            evaluation=Channel(
                type=standard_artifacts.ModelEvaluation, producer_component_id=f"Evaluator.{name}"
            ),
            model=Channel(type=standard_artifacts.Model, producer_component_id=self.trainer.id),
            **{word: decided(word, name) for word in DECISIONS},
        ).with_id(f"Resolver.night.{name}")
        self.evaluator = GatedEvaluator(
            examples=example_gen.outputs["examples"],
            model=self.trainer.outputs["model"],
            baseline_model=self.resolver.outputs["model"],
            replaced=self.resolver.outputs["replaced"],
            earlier=night.outputs["evaluation"],
            anchor=night.outputs["model"],
            gate=gate_settings(name, job, settings),
            eval_config=eval_config(
                variant.family,
                Demands(
                    floor=recipe.floor.of(job.profile),
                    min_active_units=recipe.min_active_units.of(job.profile) if variant.generative else 0.0,
                    min_codes=recipe.min_codes.of(job.profile),
                ),
                fingerprint("components.evaluation.eval_config"),
            ),
        ).with_id(f"Evaluator.{name}")
        self.pusher = self._pusher(name, serving, settings.keep) if name in settings.endpoints else None
        self.nodes = [*bases, self.trainer, self.resolver, self.gallery, night, self.evaluator]
        self.nodes += [self.pusher] if self.pusher else []

    def _pusher(self, name: str, serving: str, keep: int) -> AtomicPusher:
        destination = pusher_pb2.PushDestination.Filesystem(base_directory=os.path.join(serving, name))
        return AtomicPusher(
            model=self.trainer.outputs["model"],
            model_blessing=self.evaluator.outputs["blessing"],
            push_destination=pusher_pb2.PushDestination(filesystem=destination),
            custom_config={KEEP: keep},
        ).with_id(f"Pusher.{name}")


def gate_settings(name: str, job: Job, settings: Settings) -> GateSettings:
    """What the gate has to know of a trial: what makes its nights comparable, and the noise of training.

    Its nights and alarms are called by the name of the trial, under which its models are served.
    """
    variant = variants.load(job.variant)
    metrics = headlines(variant.family)
    limit = variant.recipe.with_overrides(job.recipe).max_detectable_loss.of(job.profile)
    own = not job.config and not job.recipe
    era = {
        **job.to_dict(), "variant": name, "module": job.variant, "spans": settings.spans,
        "warm_start": settings.warm_start, "image_shape": [SIDE, SIDE], "classes": CLASSES,
    }  # fmt: skip
    del era["seed"]
    return GateSettings(
        headlines=tuple(metrics),
        era=era,
        noise={
            metric: Declared(
                each.value,
                each.seeds,
                foreign=not own or (each.dataset, each.protocol) != (job.dataset, job.protocol),
            )
            for metric, each in spread.of(job.variant, job.profile).items()
        },
        variants=len(settings.trials),
        max_gain={**MAX_GAIN, **settings.max_gain},
        most_detectable={metrics[0]: limit} if limit else {},
        correlation=ASSUMED if settings.warm_start or settings.spans > 1 else 0.0,
        code=fingerprint("components.evaluation.gated"),
    )


def decided(word: str, name: str) -> Channel:
    """What persons' decisions of that kind on a trial have given."""
    producer = f"{BY_PERSONS}{word.capitalize()}.{name}"
    return Channel(type=standard_artifacts.ModelEvaluation, producer_component_id=producer)


def base(name: str, transform: Transform) -> Resolver:
    """Finds the model that a warm start of the trial takes its weights from."""
    return Resolver(
        strategy_class=ProductionBefore,
        examples=transform.outputs["transformed_examples"],
        model=Channel(type=standard_artifacts.Model, producer_component_id=f"Trainer.{name}"),
        blessing=Channel(type=standard_artifacts.ModelBlessing),
    ).with_id(f"Resolver.base.{name}")
