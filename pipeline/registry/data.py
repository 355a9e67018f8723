"""The data that what is in production was trained on, from ML Metadata."""

from components.identity import UNKNOWN
from components.serving.versions import by_variant, same_artifact, source
from pipeline.home import metadata
from pipeline.home.layout import Home


def of_production(home: Home) -> dict[str, str]:
    """Return the name of the data set that each model in production was trained on, by variant.

    UNKNOWN where it is not recorded, or where the records cannot be read.
    """
    serves = {
        variant: source(str(home.versions(variant)), numbers[-1])
        for variant, numbers in by_variant(str(home.serving)).items()
        if numbers
    }
    if not serves:
        return {}
    try:
        with metadata.opened(home) as store:
            models = store.of_type(metadata.MODEL)
            found = {
                variant: store.identity(model).dataset
                for variant, uri in serves.items()
                for model in models
                if same_artifact(model.uri, uri)
            }
    except metadata.ERRORS:
        return dict.fromkeys(serves, UNKNOWN)
    return {variant: found.get(variant, UNKNOWN) for variant in serves}
