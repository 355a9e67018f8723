"""The pipeline for TFX's own command line: tfx pipeline create --engine=local --pipeline_path=THIS FILE.

The environment variable LATENTLINE_SETTINGS names a YAML file of settings (pipeline.config.settings);
without it the defaults hold.
"""

import dataclasses
import importlib
import os
import sys


def main() -> None:
    """Run the pipeline of the settings file; an error is one sentence and exit code 1 or 2."""
    # Whoever runs a file puts its folder first on the path, where pipeline.py would hide this very package.
    folder = sys.path.pop(0)
    try:
        importlib.import_module("trainer.devices.quiet").libraries()
        run = importlib.import_module("pipeline.runs.run")
        settings = importlib.import_module("pipeline.config.settings")
        threads = importlib.import_module("trainer.devices.threads")
        errors = importlib.import_module("pipeline.config.errors")
        sources = importlib.import_module("components.ingest.sources")
    finally:
        sys.path.insert(0, folder)
    threads.one_an_operation()
    chosen = os.environ.get(settings.VARIABLE)
    try:
        found = settings.Settings.from_file(chosen) if chosen else settings.Settings()
        # One component after another, as TFX's own runner has it, unless the file asks for jobs.
        run.run(dataclasses.replace(found, jobs=found.jobs or 1))
    except errors.SettingsError as error:
        origin = f" ({settings.VARIABLE} is {chosen!r})" if chosen else ""
        print(f"latentline: error: {error}{origin}", file=sys.stderr)
        sys.exit(2)
    except (sources.DataSourceError, errors.HomeInUse, errors.HomeNotWritable, errors.RunFailed) as error:
        print(f"latentline: error: {error}", file=sys.stderr)
        sys.exit(getattr(error, "exit_code", 1))


if __name__ == "__main__":
    main()
