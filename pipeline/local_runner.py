"""The pipeline for TFX's own command line: tfx pipeline create --engine=local --pipeline_path=THIS FILE.

The environment variable LATENTLINE_SETTINGS names a YAML file of settings (pipeline.config.settings);
without it the defaults hold.
"""

import importlib
import os
import sys


def main() -> None:
    """Run the pipeline of the settings file."""
    # Whoever runs a file puts its folder first on the path, where pipeline.py would hide this very package.
    folder = sys.path.pop(0)
    try:
        run = importlib.import_module("pipeline.runs.run")
        settings = importlib.import_module("pipeline.config.settings")
        threads = importlib.import_module("trainer.devices.threads")
    finally:
        sys.path.insert(0, folder)
    threads.one_an_operation()
    chosen = os.environ.get(settings.VARIABLE)
    run.run(settings.Settings.from_file(chosen) if chosen else settings.Settings())


if __name__ == "__main__":
    main()
