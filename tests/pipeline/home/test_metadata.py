"""The door to ML Metadata: what it answers about a store that TFX's own functions have filled."""

import pathlib
import shutil

import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.orchestration import metadata as tfx_metadata
from tfx.orchestration.portable import execution_publish_utils
from tfx.orchestration.portable.mlmd import context_lib
from tfx.types import standard_artifacts

from pipeline.home import metadata
from pipeline.home.layout import Home
from pipeline.home.metadata import Blessing, Model, Node, Push, State, Store


@pytest.fixture
def home(tmp_path: pathlib.Path) -> Home:
    return Home(tmp_path)


def train(home: Home, run: str, variant: str = "mlp", fail: bool = False) -> int:
    """Record a training as TFX's launcher does; the id of its execution."""
    with tfx_metadata.Metadata(metadata.connection(home)) as handle:
        names = {"pipeline": "latentline", "pipeline_run": run, "node": f"latentline.Trainer.{variant}"}
        contexts = [context_lib.register_context_if_not_exists(handle, k, n) for k, n in names.items()]
        execution = execution_publish_utils.register_execution(
            handle, mlmd.ExecutionType(name="Trainer"), contexts, exec_properties={"seed": 3, "name": variant}
        )
        if not fail:
            model = standard_artifacts.Model()
            model.uri = str(home.output(f"Trainer.{variant}", "model", execution.id))
            execution_publish_utils.publish_succeeded_execution(
                handle, execution.id, contexts, {"model": [model]}
            )
        return int(execution.id)


def the_model(store: Store, execution: int) -> Model:
    [model] = store.outputs(execution)["model"]
    assert isinstance(model, Model)
    return model


def decide(store: Store, model: Model, kind: str = "latentline.Promote") -> metadata.Decision:
    return store.begin_decision(kind, "latentline", "mlp", model, {"user": "eve", "replaced_version": 4})


def test_an_execution_is_found_with_its_node_state_and_properties(home: Home) -> None:
    number = train(home, "monday")
    with metadata.opened(home) as store:
        found = store.execution(number)
        assert (found.state, found.properties["seed"], found.properties["name"]) == (State.COMPLETE, 3, "mlp")
        assert store.node(number) == Node("Trainer.mlp", "latentline", "monday")
        assert store.node(number).variant == "mlp"
        assert store.pipelines() == ["latentline"]
        assert store.newest_execution() == found


def test_active_executions_are_those_that_have_no_end(home: Home) -> None:
    train(home, "monday")
    cut_off = train(home, "tuesday", fail=True)
    with metadata.opened(home) as store:
        assert [execution.id for execution in store.active_executions()] == [cut_off]
        store.mark_failed(cut_off)
        assert store.active_executions() == []
        assert store.execution(cut_off).state is State.FAILED


def test_models_are_listed_by_node_in_the_order_of_training(home: Home) -> None:
    numbers = [train(home, run) for run in ("monday", "tuesday")]
    train(home, "tuesday", variant="cvae")
    with metadata.opened(home) as store:
        models = store.of_node("latentline", "Trainer.mlp", metadata.MODEL)
        assert [store.maker(model).id for model in models] == numbers
        assert store.at(models[0].uri, metadata.MODEL) == models[0]
        assert store.at(models[0].uri, metadata.BLESSING) is None
        assert store.artifacts_of(numbers) == {model.id for model in models}


def test_a_deleted_artifact_is_still_known_to_its_node_but_counted_on_by_nobody(home: Home) -> None:
    number = train(home, "monday")
    with metadata.opened(home) as store:
        store.mark_deleted(the_model(store, number))
        assert not the_model(store, number).live
        assert store.live_artifacts() == store.of_type(metadata.MODEL) == []
        assert len(store.of_node("latentline", "Trainer.mlp", metadata.MODEL)) == 1


def test_a_decision_leaves_a_blessing_and_a_push_like_those_of_a_run(home: Home) -> None:
    number = train(home, "monday")
    with metadata.opened(home) as store:
        model = the_model(store, number)
        decision = decide(store, model)
        assert store.execution(decision.execution).state is State.RUNNING
        store.finish_decision(decision, model, "blessing/7", "push/7", "serving/mlp/12", 12)
        given = store.outputs(decision.execution)
        [blessing], [push] = given["blessing"], given["pushed_model"]
        assert isinstance(blessing, Blessing)
        assert (blessing.blessed, blessing.model, blessing.model_uri) == (True, model.id, model.uri)
        assert store.blessings() == [blessing]
        assert isinstance(push, Push)
        assert (push.version, push.destination) == (12, "serving/mlp/12")
        assert store.execution(decision.execution).properties["user"] == "eve"
        assert [user.id for user in store.users(model)] == [decision.execution]


def test_a_decision_that_was_not_carried_out_blesses_nothing(home: Home) -> None:
    number = train(home, "monday")
    with metadata.opened(home) as store:
        decision = decide(store, the_model(store, number))
        store.mark_failed(decision.execution)
        assert store.blessings() == []
        assert store.execution(decision.execution).state is State.FAILED


@pytest.mark.usefixtures("one_attempt")
def test_a_store_that_cannot_be_opened_raises_what_callers_catch(tmp_path: pathlib.Path) -> None:
    home = Home(tmp_path)
    home.database.write_text("no database at all, but long enough to be looked at" * 99)
    with pytest.raises(metadata.ERRORS), metadata.opened(home):
        pass


def moved(home: Home) -> Home:
    """The same store in another home, with a model that was promoted."""
    number = train(home, "monday")
    with metadata.opened(home) as store:
        model = the_model(store, number)
        decision = decide(store, model)
        store.finish_decision(
            decision, model, str(home.output("latentline.Promote", "blessing", decision.execution)),
            str(home.output("latentline.Promote", "pushed_model", decision.execution)),
            str(home.versions("mlp") / "5"), 5,
        )  # fmt: skip
    elsewhere = Home(home.folder / "else where's")
    elsewhere.folder.mkdir()
    shutil.copy(home.database, elsewhere.database)
    return elsewhere


@pytest.mark.parametrize("recorded_anew", [False, True])
def test_paths_of_a_moved_home_are_those_of_the_place_where_it_is_found(
    home: Home, recorded_anew: bool
) -> None:
    elsewhere = moved(home)
    with metadata.opened(elsewhere) as store:
        if recorded_anew:
            assert store.move(elsewhere)
            assert not store.move(elsewhere)
        [model] = store.of_type(metadata.MODEL)
        assert model.uri == str(elsewhere.output("Trainer.mlp", "model", store.maker(model).id))
        for known in (model.uri, model.uri.replace(str(elsewhere), str(home))):
            assert store.at(known, metadata.MODEL) == model
        [blessing] = store.blessings()
        assert blessing.model_uri == model.uri
        [push] = store.of_node("latentline", "latentline.Promote.mlp", "PushedModel")
        assert isinstance(push, Push)
        assert push.destination == str(elsewhere.versions("mlp") / "5")
        assert store.at(str(elsewhere.folder / "artifacts/Trainer_mlp/model/1"), metadata.MODEL) is None
    with metadata.opened(metadata.connection(elsewhere)) as raw:
        [recorded] = raw.of_type(metadata.MODEL)
        assert (recorded.uri == model.uri) is recorded_anew
    with metadata.opened(home) as store:
        assert not store.move(home)


def test_a_home_that_was_moved_is_recorded_anew_whole_or_not_at_all(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call of put_artifacts is one transaction."""
    elsewhere = moved(home)
    with metadata.opened(elsewhere) as store:
        put = store._store.put_artifacts
        calls: list[int] = []

        def counted(found: list) -> None:
            calls.append(len(found))
            put(found)

        monkeypatch.setattr(store._store, "put_artifacts", counted)
        store.move(elsewhere)
        assert calls == [3]
