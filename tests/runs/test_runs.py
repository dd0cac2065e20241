"""From rows to a folder: what stands in it, whose it is, and how a killed run goes on."""

import json

import keras
import numpy as np
import pytest

import mtl_keras as mtl
from mtl_keras.runs.folder import RunFolder
from mtl_keras.runs.own_data import parse_target, tasks_of
from tests.helpers import same, table_data, table_model


def _parts(rows=60):
    x, y = table_data(rows)
    y["cost"][::5] = np.nan
    tasks = [
        mtl.tasks.Regression("cost", hidden=0, scale="fit"),
        mtl.tasks.Binary("sold", hidden=0),
    ]
    return mtl.data.from_arrays(x, y, tasks).split(0.6, 0.2, 0.2)


def _build(tasks):
    return table_model(tasks)


def _train(folder, parts, **options):
    options = {"epochs": 4, "batch_size": 8, "verbose": False, "learning_rate": 0.01, **options}
    return mtl.runs.train(_build, *parts, folder, **options)


@pytest.mark.large
def test_a_run_leaves_a_network_its_report_and_its_file(tmp_path):
    parts = _parts()
    results = _train(tmp_path / "run", parts, epochs=1)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {
        "history.json", "metrics.json", "model.keras", "model.tflite", "pictures", "report.md",
        "settings.json", "split.json",
    }  # fmt: skip
    # The scores are those of the network that was saved, on the test part.
    model = keras.saving.load_model(tmp_path / "run" / "model.keras")
    scores = model.evaluate(parts[2].batch(8), verbose=0)
    for name, value in results["scores"]["model"].items():
        assert value == pytest.approx(scores[name], rel=1e-5)
        assert results["scores"]["model.tflite"][name] == pytest.approx(value, abs=1e-3)
    assert results == json.loads((tmp_path / "run" / "metrics.json").read_text())
    rows = json.loads((tmp_path / "run" / "split.json").read_text())
    names = [name for part in rows.values() for name in part]
    assert sorted(names) == sorted(f"row {i}" for i in range(60))
    report = (tmp_path / "run" / "report.md").read_text()
    for name in ("curves", "predictions", "confusion", "reliability"):
        assert f"pictures/{name}.png" in report
        assert (tmp_path / "run" / "pictures" / f"{name}.png").is_file()
    with pytest.raises(mtl.export.ExportError, match="holds a finished run"):
        _train(tmp_path / "run", parts)


@pytest.mark.large
def test_a_killed_run_comes_to_the_same_network(tmp_path, monkeypatch):
    parts = _parts(40)
    whole = _train(tmp_path / "whole", parts)
    keep = mtl.runs.BestEpoch.on_epoch_end
    calls = []

    def killed(self, epoch, logs=None):
        calls.append(epoch)
        if len(calls) == 3:
            raise KeyboardInterrupt
        keep(self, epoch, logs)

    monkeypatch.setattr(mtl.runs.BestEpoch, "on_epoch_end", killed)
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path / "killed", parts)
    assert not (tmp_path / "killed" / "model.keras").exists()
    with pytest.raises(mtl.export.ExportError, match="a run that was stopped"):
        _train(tmp_path / "killed", parts)
    with pytest.raises(mtl.export.ExportError, match="other settings: seed=0"):
        _train(tmp_path / "killed", parts, resume=True, seed=1)
    resumed = _train(tmp_path / "killed", parts, resume=True)
    assert calls == [0, 1, 2, 2, 3]
    assert resumed["scores"]["model"] == pytest.approx(whole["scores"]["model"], rel=1e-4)
    networks = [
        keras.saving.load_model(tmp_path / name / "model.keras").get_weights()
        for name in ("whole", "killed")
    ]
    same(*networks)
    history = [json.loads((tmp_path / n / "history.json").read_text()) for n in ("whole", "killed")]
    assert history[0]["val_loss"] == pytest.approx(history[1]["val_loss"], rel=1e-4)
    assert not (tmp_path / "killed" / ".work").exists()
    # A finished run answers with what it has.
    assert _train(tmp_path / "killed", parts, resume=True) == resumed


def test_the_best_epoch_is_kept_and_patience_ends(tmp_path):
    model = table_model()
    keeper = mtl.runs.BestEpoch(tmp_path, monitor="score", direction="max", patience=2)
    keeper.set_model(model)
    for epoch, score in enumerate([0.1, 0.5, float("nan"), 0.4]):
        model.get_layer("cost_linear").bias.assign([epoch])
        keeper.on_epoch_end(epoch, {"score": score})
    assert keeper.best_epoch == 2 and model.stop_training and keeper.is_done
    assert float(keeper.best_model().get_layer("cost_linear").bias.numpy()[0]) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "epoch_2.keras", "epoch_4.keras", "state.json",
    ]  # fmt: skip
    again = mtl.runs.BestEpoch(tmp_path, monitor="score", direction="max", patience=5)
    assert again.epochs == 4 and again.history["score"][:2] == [0.1, 0.5] and not again.is_done
    with pytest.raises(ValueError, match="no 'val_loss'.*score"):
        mtl.runs.BestEpoch(tmp_path / "new").on_epoch_end(0, {"score": 1.0})
    with pytest.raises(ValueError, match="holds no network"):
        mtl.runs.BestEpoch(tmp_path / "new").best_model()


def test_files_of_others_are_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("three years of work")
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(mtl.export.ExportError):
            RunFolder(tmp_path, {"seed": 0}, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    run = RunFolder(tmp_path / "run", {"seed": 0})
    (run.path / "notes.txt").write_text("mine")
    run.write_json("metrics.json", {})
    RunFolder(run.path, {"seed": 1}, overwrite=True)
    assert (run.path / "notes.txt").read_text() == "mine" and not run.is_finished
    with pytest.raises(ValueError, match="exclude each other"):
        RunFolder(run.path, {}, resume=True, overwrite=True)
    with pytest.raises(mtl.export.ExportError, match="is a file"):
        RunFolder(run.path / "notes.txt", {})


def test_targets_are_columns_and_kinds(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a;Blood pressure;x:y;sick\n1;1,5;u;yes\n2;2,5;v;no\n3;?;v;no\n")
    tasks = tasks_of(path, ["Blood pressure", "sick:binary", "x:y"])
    assert {task.name: (task.kind, column) for task, column in tasks.items()} == {
        "Blood_pressure": ("regression", "Blood pressure"),
        "sick": ("binary", "sick"),
        "x_y": ("classification", "x:y"),
    }
    assert parse_target("a:regression") == ("a", "regression")
    with pytest.raises(ValueError, match="binry"):
        tasks_of(path, ["sick:binry"])
    with pytest.raises(mtl.data.DataError, match="Name at least one column.*Blood pressure"):
        tasks_of(path, [])
    with pytest.raises(mtl.data.DataError, match="pressure"):
        tasks_of(path, ["pressure"])
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        mtl.runs.load_data(tmp_path / "no.csv", [])
    with pytest.raises(mtl.data.DataError, match="should be a CSV file"):
        mtl.runs.load_data(__file__, [])


def test_settings_that_can_not_be_are_refused(tmp_path):
    parts = _parts()
    with pytest.raises(ValueError, match="`epochs`.*Received: 0"):
        _train(tmp_path / "run", parts, epochs=0)
    with pytest.raises(ValueError, match="`learning_rate`"):
        _train(tmp_path / "run", parts, learning_rate=0)
    assert not (tmp_path / "run").exists()
