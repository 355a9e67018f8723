"""Runs a compiled pipeline in real containers on this machine, as Kubeflow's SDK runs them.

    .check/bin/python kubeflow/check/containers.py pipeline.yaml --folder FOLDER --mount /latentline

Needs a Docker Engine and the image that the pipeline names. FOLDER stands for the cluster's volume: it must
belong to user 1000 and hold the data. Compile with `metadata: {sqlite: /latentline/metadata.db}`: the SDK
gives tasks their environment, but knows no Secrets here.
Exits 0 when every task has ended well.
"""

import argparse
import os
import sys

import docker
from kfp import components, local


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__
    )
    parser.add_argument("pipeline")
    parser.add_argument("--folder", required=True)
    parser.add_argument("--mount", default="/latentline")
    options = parser.parse_args()
    runner = local.DockerRunner(
        mounts=[docker.types.Mount(options.mount, os.path.abspath(options.folder), type="bind")],
        network_mode="none",
    )
    local.init(runner=runner, pipeline_root=os.path.join(options.folder, "kfp"), raise_on_error=True)
    try:
        components.load_component_from_file(options.pipeline)()
    except RuntimeError as error:
        sys.exit(f"{options.pipeline}: {error}")
    print(f"{options.pipeline}: every task has ended well")


if __name__ == "__main__":
    main()
