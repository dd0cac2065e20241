import json
import sys

import pytest

import mtl_keras as mtl


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    mtl.export.tflite(trained[0], folder / "model.tflite")
    for task in ("kind", "box"):
        mtl.export.tflite(trained[0], folder / f"{task}.tflite", tasks=[task])
    return folder


@pytest.mark.large
def test_a_file_by_threads_and_against_single_task_files(folder, tmp_path, capsys):
    singles = [folder / "kind.tflite", folder / "box.tflite"]
    report = mtl.export.benchmark(
        folder / "model.tflite", threads=[1, 2], runs=5, singles=singles, rounds=1
    )
    assert [(row["file"], row["threads"]) for row in report.rows[:2]] == [
        ("model.tflite", 1),
        ("model.tflite", 2),
    ]
    for row in report.rows:
        assert (
            0 < row["median_ms"] <= row["p95_ms"] and row["partitions"] >= 1 and row["peak_mb"] > 0
        )
        assert row["bytes"] == (folder / row["file"]).stat().st_size
    alone = [row for row in report.rows if row["threads"] == 2 and row["file"] != "model.tflite"]
    assert report.against[2]["sum_ms"] == pytest.approx(sum(row["median_ms"] for row in alone))
    assert report.against[2]["latency_ratio"] == pytest.approx(
        report.rows[1]["median_ms"] / report.against[2]["sum_ms"]
    )
    assert report.cpu and json.loads(json.dumps(report.to_dict()))["cpu"] == report.cpu
    report.show()
    printed = capsys.readouterr().out
    assert "against the single-task files together" in printed and "on " in printed
    report.plot(tmp_path / "latency.png")
    assert (tmp_path / "latency.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.large
def test_a_folder_is_all_its_files(folder):
    report = mtl.export.benchmark(folder, runs=2, rounds=1)
    assert [row["file"] for row in report.rows] == [
        "box.tflite",
        "kind.tflite",
        "model.tflite",
    ] and report.against == {}


def test_what_can_not_be_measured_is_named(folder, tmp_path):
    (tmp_path / "bad.tflite").write_bytes((folder / "model.tflite").read_bytes()[:900])
    with pytest.raises(mtl.export.ExportError, match=r"bad\.tflite can't be run"):
        mtl.export.benchmark(tmp_path, runs=1, rounds=1)
    with pytest.raises(mtl.export.ExportError, match=r"none\.tflite is not there"):
        mtl.export.benchmark(tmp_path / "none.tflite")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="No .tflite file in"):
        mtl.export.benchmark(tmp_path / "empty")
    with pytest.raises(ValueError, match="`threads` needs whole numbers of at least 1"):
        mtl.export.benchmark(folder, threads=[0])


def test_it_measures_where_there_is_only_the_runtime_and_numpy(folder, without):
    code = f"""
import mtl_keras as mtl
print(mtl.export.benchmark({str(folder / "kind.tflite")!r}, runs=2, rounds=1).rows[0]["file"])
"""
    done = without(["tensorflow", "keras"], code)
    assert done.returncode == 0 and done.stdout.strip() == "kind.tflite", done.stderr[-2000:]


def test_reports_count_as_benchmarks_do(folder, monkeypatch):
    """Both take the smallest median of three rounds: one slow round, while the machine was busy,
    says nothing of the file."""
    from mtl_keras.runtime import measure

    rounds = {
        "report": iter([[9.0, 9.0, 1.0], [2.0, 2.0, 50.0], [7.0, 7.0, 7.0]]),
        "benchmark": iter([9.0, 2.0, 7.0]),
    }
    monkeypatch.setattr(measure, "_times", lambda *args, **kwargs: next(rounds["report"]))
    told = lambda *args: {"median_ms": next(rounds["benchmark"]), "bytes": 1}  # noqa: E731
    # The package's attribute of this name is the function.
    monkeypatch.setattr(sys.modules["mtl_keras.runtime.benchmarking"], "_measure_apart", told)
    assert measure.quick(folder / "model.tflite")[1] == 2.0
    assert mtl.export.benchmark(folder / "model.tflite", runs=3).rows[0]["median_ms"] == 2.0
