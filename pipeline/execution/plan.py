"""What a pipeline on a cluster is compiled from, as a short text, so that its image can compile it again.

The IR of a hundred variants is too long for the arguments of a container: Argo keeps each argument some
nine times. The plan is a few hundred bytes. The first task of a run compiles the IR from it and compares the
digest with the one that compile.py found: they differ where the image holds other code than compile.py had.
"""

import base64
import dataclasses
import hashlib
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

from pipeline.config import engines
from pipeline.config.cluster import Cluster, Data
from pipeline.config.settings import Settings
from schemas import strict

NOT_PLANNED = ("home", "notify", "mlflow", "keep_runs", "engines", "beam")
"""Settings that no node of a cluster reads; what Beam runs on is in the plan itself, and in the IR."""

DIGEST_BYTES = 16
"""Bytes of SHA-256 before the compressed plan; Adler-32, which zlib checks, misses some exchanged letters."""


class BadPlan(ValueError):
    """The text is not a plan, or not one that this code understands."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything that decides the IR of a pipeline on a cluster, beside the code.

    Attributes:
      settings: what is trained and how.
      data: name and default folder of the images.
      root: TFX's pipeline root.
      serving: folder of the pushed models.
      schema: the curated schema file in the image.
      beam: Beam's arguments by component.
      workers: the JobSet of each pool whose trainings have several workers, as JSON text; not part of the IR.
    """

    settings: Settings
    data: Data
    root: str
    serving: str
    schema: str
    beam: Mapping[str, Sequence[str]]
    workers: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings, cluster: Cluster) -> "Plan":
        """Return the plan of the settings with the places of a cluster; `beam` of the settings wins."""
        schema = os.path.join(cluster.code, "schemas", "schema.pbtxt")
        beam = settings.beam_arguments if settings.beam else engines.resolved(cluster.beam, {})
        return cls(settings, cluster.data, cluster.root, cluster.serving, schema, beam)

    def text(self, hooks: bool = False) -> str:
        """Return the plan as text without braces and dollar signs, which Kubeflow and Kubernetes rewrite.

        hooks: whether with those of the settings, which only the task at the end of a run heeds.
        """
        chosen = {
            field.name: value
            for field in dataclasses.fields(Settings)
            if (field.name not in NOT_PLANNED or (hooks and field.name == "notify"))
            and (value := getattr(self.settings, field.name)) != _default(field)
        }
        chosen["variants"] = self.settings.variants  # the image's folder of variants may hold others
        values = {
            **{name: getattr(self, name) for name in ("root", "serving", "schema", "beam")},
            "data": dataclasses.asdict(self.data),
            "settings": chosen,
            **({"workers": self.workers} if self.workers and not hooks else {}),
        }
        return packed(values)

    @classmethod
    def from_text(cls, text: str) -> "Plan":
        """Return the plan that `text` gave. Raises BadPlan."""
        try:
            checked = base64.b64decode(text, validate=True)
            written = zlib.decompress(checked[DIGEST_BYTES:])
            if _digest(written) != checked[:DIGEST_BYTES]:
                raise ValueError("its checksum does not match")
            values = json.loads(written)
            chosen, data = values.pop("settings"), Data(**values.pop("data"))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, zlib.error) as error:
            words = " ".join(str(error).split())
            raise BadPlan(
                f"--plan is not a plan of compile.py ({words}); compile and upload again"
            ) from error
        try:
            return cls(settings=strict.from_mapping(Settings, chosen), data=data, **values)
        except (ValueError, TypeError, AttributeError) as error:
            raise BadPlan(
                f"the image refuses the plan that compile.py accepted ({' '.join(str(error).split())}): it "
                "was built from other code; build and push it again, compile and upload"
            ) from error

    def intermediate(self) -> Any:
        """Return TFX's intermediate representation (IR) of the pipeline."""
        from tfx.dsl.compiler import compiler
        from tfx.orchestration.data_types import RuntimeParameter

        from components.ingest.sources import Dataset
        from pipeline.dag.target import Target
        from pipeline.pipeline import create_pipeline

        folder = RuntimeParameter(name="data", ptype=str, default=self.data.folder)
        own = self.settings.dataset
        # The name in the cluster file is of its own folder only, a name in the settings of any.
        dataset = Dataset(own or self.data.name, cast(str, folder), "" if own else self.data.folder)
        target = Target(root=self.root, serving=self.serving, schema=self.schema, beam=self.beam)
        return compiler.Compiler().compile(create_pipeline(self.settings, dataset, target))


def packed(values: Any) -> str:
    """Return values of JSON as the text of a plan: base64 of a checksum and the compressed JSON."""
    written = json.dumps(values, sort_keys=True, default=_plain).encode()
    return base64.b64encode(_digest(written) + zlib.compress(written, 9)).decode()


def _digest(written: bytes) -> bytes:
    """Return the first bytes of the SHA-256 of a plan."""
    return hashlib.sha256(written).digest()[:DIGEST_BYTES]


def _default(field: Any) -> Any:
    """Return what a field of the settings is where nothing is chosen."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _plain(value: Any) -> Any:
    """Return a frozen value of the settings as JSON has it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return dict(value)
