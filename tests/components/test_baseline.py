from tfx.types import standard_artifacts

from components.baseline import LatestBlessedRival


def model(identity: int) -> standard_artifacts.Model:
    artifact = standard_artifacts.Model()
    artifact.id = identity
    return artifact


def blessing(of: int, blessed: bool = True) -> standard_artifacts.ModelBlessing:
    artifact = standard_artifacts.ModelBlessing()
    artifact.set_int_custom_property("current_model_id", of)
    artifact.set_int_custom_property("blessed", int(blessed))
    return artifact


def rival(candidate: int, models: list[int], blessings: list[standard_artifacts.ModelBlessing]) -> list[int]:
    inputs = {"candidate": [model(candidate)], "model": [model(i) for i in models], "blessing": blessings}
    resolved = LatestBlessedRival().resolve_artifacts(None, inputs)
    return [artifact.id for artifact in resolved["model"]]


def test_the_newest_blessed_model_is_the_rival() -> None:
    assert rival(9, [1, 9, 5, 3], [blessing(1), blessing(5), blessing(3)]) == [5]


def test_a_model_that_was_not_blessed_is_no_rival() -> None:
    assert rival(9, [1, 5], [blessing(1), blessing(5, blessed=False)]) == [1]


def test_a_candidate_is_not_its_own_rival_so_that_a_second_run_is_cached() -> None:
    assert rival(5, [1, 5], [blessing(1), blessing(5)]) == [1]
    assert rival(5, [5], [blessing(5)]) == []


def test_blessings_of_other_variants_models_do_not_count() -> None:
    assert rival(9, [1], [blessing(1), blessing(7)]) == [1]


def test_without_any_model_there_is_no_rival() -> None:
    assert rival(9, [], []) == []
