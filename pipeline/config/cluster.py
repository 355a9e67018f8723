"""What a cluster offers, as kubeflow/cluster.yaml says it: typed, frozen, and strict about its keys.

Secrets are only ever named here, never written down.
"""

import dataclasses
import fnmatch
import os
import re
from collections.abc import Mapping

from pipeline.config import engines, files
from pipeline.config.engines import EVERY, LOCAL_BEAM
from pipeline.config.errors import SettingsError
from pipeline.config.settings import PATTERN_CHARACTERS

DIGEST = re.compile(r"\S+@sha256:[0-9a-f]{64}")
QUANTITY = re.compile(r"\d+(\.\d+)?(m|Ki|Mi|Gi|Ti|k|M|G|T)?")
NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
DURATION = re.compile(r"[1-9]\d*[smh]")
VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
RESERVED = ("/gcs", "/s3", "/minio", "/.local", "/.cache", "/.config")
"""Where Kubeflow Pipelines mounts its own volumes in every task."""
MOST_WORKERS = 256
"""Pods of one training: all their names are in the environment of each, as TF_CONFIG."""
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


class ClusterError(SettingsError):
    """Something in the cluster file is wrong; the message says where, what was found and what is accepted."""


@dataclasses.dataclass(frozen=True)
class SecretKey:
    """One value of a Kubernetes Secret: its name and the key in it."""

    name: str
    key: str

    def __post_init__(self) -> None:
        _check(NAME, self.name, "name", "the name of a Secret, such as latentline-mysql")


@dataclasses.dataclass(frozen=True)
class MySql:
    """A MySQL 8 server (with mysql_native_password) or MariaDB that keeps the metadata.

    Attributes:
      host: name or address of the server, as pods see it.
      port: of the server.
      database: which must exist; its tables are made by `python -m pipeline.node --init-metadata`.
      user: that may create tables in the database.
      password: the Secret that holds the user's password.
    """

    host: str
    password: SecretKey
    port: int = 3306
    database: str = "latentline"
    user: str = "latentline"

    def __post_init__(self) -> None:
        if not 0 < self.port < 65536:
            raise ValueError(f"port must be between 1 and 65535, got {self.port}")
        if not self.host:
            raise ValueError("host is empty; give the name of the server's Service")


@dataclasses.dataclass(frozen=True)
class Metadata:
    """Where the metadata is kept: a server, or a SQLite file where all tasks run on one host.

    Attributes:
      mysql: the server; for any cluster of more than one host.
      sqlite: path of the file, on a volume that locks files.
    """

    mysql: MySql | None = None
    sqlite: str = ""

    def __post_init__(self) -> None:
        if (self.mysql is None) == (not self.sqlite):
            raise ValueError("give either mysql or sqlite")
        if self.sqlite and not self.sqlite.startswith("/"):
            raise ValueError(f"sqlite must be an absolute path, got {self.sqlite!r}")


@dataclasses.dataclass(frozen=True)
class Volume:
    """A volume of the cluster, mounted in every task at the same path.

    Attributes:
      claim: name of a ReadWriteMany PersistentVolumeClaim in the namespace of the runs.
      mount: path in the tasks.
    """

    claim: str
    mount: str

    def __post_init__(self) -> None:
        _check(NAME, self.claim, "claim", "the name of a PersistentVolumeClaim")
        if not self.mount.startswith("/") or self.mount == "/":
            raise ValueError(f"mount must be an absolute path below /, got {self.mount!r}")
        if self.mount.startswith(RESERVED):
            raise ValueError(f"mount {self.mount!r} is taken: Kubeflow mounts {', '.join(RESERVED)} itself")


@dataclasses.dataclass(frozen=True)
class Data:
    """The images that are trained on.

    Attributes:
      name: of the data set in `folder`, by which models are comparable. Where the run parameter `data` names
        another folder, its name or, if the settings have one, their `dataset` takes its place.
      folder: of its four IDX files, or of folders span-1, span-2, ... where the settings say `spans: 1` or
        more. It is the default of the run parameter `data`; a folder that is the `data` of the settings takes
        its place.
    """

    name: str
    folder: str


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """Devices that each task of a pool gets.

    Attributes:
      type: resource name of the device plugin, such as nvidia.com/gpu.
      count: devices a task.
    """

    type: str = "nvidia.com/gpu"
    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count must be at least 1, got {self.count}; leave accelerator out for none")


@dataclasses.dataclass(frozen=True)
class Toleration:
    """A taint that the tasks of a pool put up with.

    Attributes:
      key: of the taint.
      operator: Exists or Equal.
      value: of the taint, with Equal.
      effect: NoSchedule, PreferNoSchedule or NoExecute; empty for all.
    """

    key: str
    operator: str = "Exists"
    value: str = ""
    effect: str = "NoSchedule"

    def __post_init__(self) -> None:
        if self.operator not in ("Exists", "Equal"):
            raise ValueError(f"operator must be Exists or Equal, got {self.operator!r}")
        if (self.operator == "Equal") != bool(self.value):
            raise ValueError("value goes with operator Equal, and only with it")
        if self.effect and self.effect not in EFFECTS:
            raise ValueError(f"effect must be {', '.join(EFFECTS)} or empty, got {self.effect!r}")


@dataclasses.dataclass(frozen=True)
class Retry:
    """What happens to a task that fails, or whose pod is lost.

    Attributes:
      times: how often it is started again; 0 for never.
      wait: before the first time, as in 30s, 5m or 1h.
      factor: by which the wait grows each time; a whole number, since Argo reads no other.
      days: after the start of the first pod, in which a lost pod is replaced. A replaced pod that still runs
        when they are over is ended, so they have to be more than the longest training takes.
    """

    times: int = 2
    wait: str = "30s"
    factor: float = 2.0
    days: int = 7

    def __post_init__(self) -> None:
        if self.times < 0:
            raise ValueError(f"times must be at least 0, got {self.times}")
        _check(DURATION, self.wait, "wait", "a duration such as 30s, 5m or 1h")
        if self.factor < 1 or self.factor != int(self.factor):
            raise ValueError(f"factor must be a whole number of at least 1, got {self.factor}")
        if not 1 <= self.days <= 365:
            raise ValueError(f"days must be between 1 and 365, got {self.days}")


@dataclasses.dataclass(frozen=True)
class Pool:
    """Machines that tasks are sent to, and what each task gets there.

    Attributes:
      cpu: cores that a task is given, requested and limit alike, such as 2 or 500m.
      memory: the same of memory, such as 8Gi.
      accelerator: devices, or none.
      node_selector: labels that a machine must have.
      tolerations: taints that are put up with.
      retry: of the tasks of this pool.
      workers: pods that train a model together, each with the above; 1 to train in the task itself. With more
        the task creates a JobSet, and waits without accelerator in the pool of Leaderboard.
    """

    cpu: str
    memory: str
    accelerator: Accelerator | None = None
    node_selector: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    retry: Retry = dataclasses.field(default_factory=Retry)
    workers: int = 1

    @property
    def replicas(self) -> int:
        """Return the number of devices that a batch is split over."""
        return self.workers * (self.accelerator.count if self.accelerator else 1)

    def __post_init__(self) -> None:
        if not 1 <= self.workers <= MOST_WORKERS:
            raise ValueError(
                f"workers must be between 1 and {MOST_WORKERS}, got {self.workers}; 1 trains in the task"
            )
        _check(QUANTITY, self.cpu, "cpu", "a quantity such as 2 or 500m")
        _check(QUANTITY, self.memory, "memory", "a quantity such as 8Gi")


@dataclasses.dataclass(frozen=True)
class Placement:
    """Which nodes go to a pool.

    Attributes:
      nodes: pattern of node ids, with * and ?, such as Trainer.*
      pool: name of a pool.
    """

    nodes: str
    pool: str


@dataclasses.dataclass(frozen=True)
class Schedule:
    """When the pipeline runs by itself.

    Attributes:
      cron: SIX fields, seconds first: second minute hour day-of-month month day-of-week.
    """

    cron: str

    def __post_init__(self) -> None:
        check_cron(self.cron)


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """Kubeflow Pipelines' API, for deploy.py.

    Attributes:
      url: of the API, such as http://localhost:8080; the environment variable KF_PIPELINES_ENDPOINT wins.
      namespace: of the runs; empty for a Kubeflow Pipelines of its own (single-user).
      ca_certificate: file with the authority that signed the server's certificate; empty for the system's.
      token_file: file with a bearer token, read anew for each command; empty for none. The environment
        variable KF_PIPELINES_TOKEN wins.
      cookies_variable: environment variable with the session cookie of a Kubeflow behind a login page.
      timeout: seconds to wait for an answer.
    """

    url: str = "http://localhost:8080"
    namespace: str = ""
    ca_certificate: str = ""
    token_file: str = ""
    cookies_variable: str = "KF_PIPELINES_COOKIES"
    timeout: float = 30.0

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url must begin with http:// or https://, got {self.url!r}")
        if self.timeout <= 0:
            raise ValueError(f"timeout must be above 0 seconds, got {self.timeout}")
        _check(VARIABLE, self.cookies_variable, "cookies_variable", "the name of an environment variable")


@dataclasses.dataclass(frozen=True)
class RunAs:
    """The user and group of the tasks' processes, written into the platform document.

    Kubeflow Pipelines 2.17 reads it; older versions refuse a pipeline that has it. The image's own user is
    1000:1000 in any case.
    """

    user: int = 1000
    group: int = 1000

    def __post_init__(self) -> None:
        if self.user < 1 or self.group < 1:
            raise ValueError(f"user and group must be above 0 (root), got {self.user}:{self.group}")


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Everything about a cluster that the pipeline does not know by itself.

    Attributes:
      image: the project's image, by digest, so that a run can be repeated.
      code: folder of the project inside the image.
      root: TFX's pipeline root: gs://, or a folder on a volume.
      serving: where models are pushed to, a folder for each variant: on a volume, for a push is a rename.
      data: the images.
      metadata: the metadata store.
      pools: by name.
      placement: which node goes to which pool; the first entry whose pattern fits a node decides.
      volumes: mounted in every task.
      secrets: environment variable -> Secret, for every task (such as cloud credentials).
      image_pull_secrets: names of Secrets for the image's registry.
      image_pull_policy: Always, IfNotPresent or Never.
      service_account: that the tasks run as; empty for Kubeflow's default.
      run_as: user and group of the tasks, for Kubeflow Pipelines 2.17; none for the image's own.
      endpoint: the API, for deploy.py.
      experiment: that runs belong to.
      schedule: default of `deploy.py schedule`.
      beam: Beam arguments by component; `default` is for those not named. Settings that have `beam` win.
      log_format: of the tasks: plain or json, a line an event either way.
      verbose: whether the tasks show what TFX, Beam and TensorFlow say as well.
      unpinned_image: accept an image without digest, on a cluster for trying things out.
    """

    image: str
    root: str
    serving: str
    data: Data
    metadata: Metadata
    pools: Mapping[str, Pool]
    placement: tuple[Placement, ...]
    code: str = "/opt/latentline"
    volumes: tuple[Volume, ...] = ()
    secrets: Mapping[str, SecretKey] = dataclasses.field(default_factory=dict)
    image_pull_secrets: tuple[str, ...] = ()
    image_pull_policy: str = "IfNotPresent"
    service_account: str = ""
    run_as: RunAs | None = None
    endpoint: Endpoint = dataclasses.field(default_factory=Endpoint)
    experiment: str = "latentline"
    schedule: Schedule | None = None
    beam: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=lambda: {EVERY: LOCAL_BEAM})
    log_format: str = "plain"
    verbose: bool = False
    unpinned_image: bool = False

    def __post_init__(self) -> None:
        if not self.unpinned_image:
            _check(DIGEST, self.image, "image", "name@sha256:DIGEST (or unpinned_image: true)")
        for field in ("root", "data.folder"):
            path = self.root if field == "root" else self.data.folder
            self.check_reach(field, path)
        for field, path in (("root", self.root), ("serving", self.serving)):
            if found := sorted(set(path) & set(PATTERN_CHARACTERS)):
                raise ValueError(
                    f"{field} must hold none of {' '.join(PATTERN_CHARACTERS)}, since TFX finds files by "
                    f"patterns, got {' '.join(found)} in {path!r}; rename the folder"
                )
        if not self._on_volume(self.serving):
            raise ValueError(f"serving must be a folder on {self._mounts()}, got {self.serving!r}")
        for entry in self.placement:
            if entry.pool not in self.pools:
                raise ValueError(
                    f"placement sends {entry.nodes} to the pool {entry.pool!r}; "
                    f"there are {', '.join(self.pools)}"
                )
        for name in self.secrets:
            _check(VARIABLE, name, "secrets", "names of environment variables")
        if self.image_pull_policy not in ("Always", "IfNotPresent", "Never"):
            raise ValueError(
                f"image_pull_policy must be Always, IfNotPresent or Never, got {self.image_pull_policy!r}"
            )
        if self.log_format not in ("plain", "json"):
            raise ValueError(f"log_format must be plain or json, got {self.log_format!r}")
        if EVERY not in self.beam:
            raise ValueError(f"beam has no {EVERY}, the arguments of the components that are not named")
        engines.resolved(self.beam, {})

    def pool_of(self, node_id: str) -> str:
        """Name of the pool for a node. Raises ClusterError where no entry of placement fits."""
        for entry in self.placement:
            if fnmatch.fnmatchcase(node_id, entry.nodes):
                return entry.pool
        raise ClusterError(f'placement has no entry for {node_id}; end it with nodes: "*" and a pool')

    def check_reach(self, field: str, path: str) -> None:
        """Raise ValueError, which names the field, unless tasks can open the path: gs://, or on a volume."""
        if not path.startswith("gs://") and not self._on_volume(path):
            raise ValueError(f"{field} must be gs:// or a folder on {self._mounts()}, got {path!r}")

    def with_data(self, name: str, folder: str) -> "Cluster":
        """This cluster with other images. Raises ClusterError where tasks cannot open their folder."""
        try:
            return dataclasses.replace(self, data=Data(name, folder))
        except ValueError as error:
            raise ClusterError(str(error)) from error

    def _on_volume(self, path: str) -> bool:
        folders = [volume.mount.rstrip("/") for volume in self.volumes]
        return path.startswith("/") and any(
            os.path.commonpath([os.path.normpath(path), folder]) == folder for folder in folders
        )

    def _mounts(self) -> str:
        mounts = ", ".join(volume.mount for volume in self.volumes)
        return f"a volume ({mounts})" if mounts else "a volume (there is none: see volumes)"

    @classmethod
    def from_file(cls, path: str) -> "Cluster":
        """The cluster of a YAML file. Raises ClusterError."""
        return files.read(cls, path, "cluster", ClusterError)


def check_cron(cron: str) -> None:
    """Raise ValueError unless `cron` has six fields of the characters cron knows."""
    fields = cron.split()
    if len(fields) != 6:
        advice = f'; put the seconds first, as in "0 {cron}"' if len(fields) == 5 else ""
        raise ValueError(f"cron must have six fields, seconds first, got {len(fields)} in {cron!r}{advice}")
    for field in fields:
        if not re.fullmatch(r"[0-9A-Za-z*/,?-]+", field):
            raise ValueError(f"cron has the field {field!r}; fields are made of digits, names and * / , - ?")


def _check(pattern: re.Pattern[str], value: str, field: str, expected: str) -> None:
    if not pattern.fullmatch(value):
        raise ValueError(f"{field} must be {expected}, got {value!r}")
