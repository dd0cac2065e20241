"""What the package shows, and what importing it costs."""

import importlib
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import mtl_keras as mtl

PUBLIC = {
    "mtl_keras": "MultiTaskModel __version__ analysis backbones balancing builders callbacks data "
    "export layers plot runs runtime "
    "tasks testing training zoo",
    "mtl_keras.tasks": "Binary BoundingBox Classification Depth Detection Embedding Keypoints "
    "MultiLabel Normals Ordinal "
    "Regression Segmentation SequenceTranscription Task TaskMetric TaskOutput TokenTagging guess_task",
    "mtl_keras.builders": "SharedArguments VOCABULARY adapters aitm branches builder cgc "
    "complete_inputs cross_modal "
    "cross_stitch dselect_k esmm hard_sharing hierarchical layerwise learned_branching mmoe mtan "
    "multi_input nddr omoe ple "
    "prune sluice soft_sharing task_gated tensor_factorized",
    "mtl_keras.backbones": "bilstm deep_cross efficientnet_lite0 efficientnet_v2_b0 fpn frame_cnn "
    "get gru log_mel_cnn lstm "
    "mixed mlp mobilenet_v2 mobilenet_v3_small resnet small_cnn text_cnn transformer",
    "mtl_keras.layers": "BlockIdentity BranchChoice BranchPath CategoricalEmbedding Cross "
    "CrossStitch DSelectKGate Experts "
    "FactorizedConv1D FactorizedConv2D FactorizedDense FakeQuantize FiLM FoldFrames Gate "
    "InformationTransfer LogMel "
    "MaskPadding MaskedMax MaskedMean MaskedSelfAttention Mixture ModalityAttention "
    "ModalityDefault MutualInformation "
    "OrderCalibrator OrdinalThresholds PaddingMask PositionEmbedding ProbabilityProduct "
    "QuantizedWeights "
    "RawImage ResizeLike SoftArgmax "
    "StageMixture SubspaceStitch UnfoldFrames WeightTie",
    "mtl_keras.balancing": "AlignedMTL AutoLambda Balancer CAGrad Chain Chebyshev ConFIG DBMTL "
    "DWA DualProj EMA Equal "
    "ExcessMTL FAMO FairGrad GLS GradDrop GradNorm GradVac GradientBalancer GramBalancer "
    "HeldOutBalancer IMTL IMTLG IMTLL "
    "Krum LogLoss MGDA MetaBalance MoCo MoDo NashMTL PBI PCGrad RLW SDMGrad STCH Static "
    "TrimmedMean UPGrad Uncertainty get "
    "list_balancers names register",
    "mtl_keras.export": "BenchmarkReport CompressionReport ExportError ExportReport HeadReport "
    "LayerError LayerErrorReport "
    "TFLiteModel benchmark compress float_twin layer_errors onnx openvino quantization_aware "
    "run_tflite saved_model "
    "snippets split tflite web_page with_raw_images",
    "mtl_keras.analysis": "Attribution Calibration DeltaReport attributions calibration collect "
    "confusion_matrix delta_m delta_report expected_calibration_error judging_metrics project "
    "representations score trivial",
    "mtl_keras.runs": "BestEpoch load_data train",
    "mtl_keras.plot": "Picture confusion embedding history predictions reliability saliency",
    "mtl_keras.data.augment": "Amplitude Augmenter Blur Color ColumnNoise Crop CutMix Erase Flip "
    "Jitter MixUp Mosaic Noise Rotate Scale Shift SpecAugment Step SwapNoise WordDropout apply "
    "list_steps register_step",
    "mtl_keras.data": "Annotations ArrayField CharTokenizer DataError Description Field "
    "FunctionField HashingTokenizer ImageEncoder Inputs LabelScaleWarning LeakWarning "
    "MixedEncoder SoundEncoder Split SplitWarning SubwordTokenizer TableEncoder "
    "TaskDataset WordTokenizer augment batches class_weights complete fashion_scenes fetch "
    "from_arrays from_csv from_dataframe from_folder from_huggingface from_parquet from_tf_data "
    "from_tfds labels mix "
    "only_labelled read_coco read_voc register_encoder row_weights sampling_rates "
    "sources split_words task_weights",
    "mtl_keras.runtime": "BenchmarkReport CharTokenizer ExportError HashingTokenizer ImageEncoder "
    "MixedEncoder SubwordTokenizer TFLiteModel TableEncoder "
    "SoundEncoder WordTokenizer benchmark decode encoder_from_json encoder_to_json register_encoder snippets "
    "web_page",
    "mtl_keras.testing": "run_backbone_test run_balancer_test run_builder_test run_task_test "
    "table_data table_model",
    "mtl_keras.callbacks": "BalanceMonitor Progress",
    "mtl_keras.training": "balanced_gradients observe_updated_losses",
    "mtl_keras.zoo": "build export info list_models load path recipe train",
}


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_those_on_the_list(module):
    found = importlib.import_module(module)
    assert sorted(found.__all__) == sorted(PUBLIC[module].split())
    for name in found.__all__:
        assert getattr(found, name) is not None
    assert found.__doc__.strip()


def test_an_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = mtl.nothing


@pytest.mark.parametrize("module", [m for m in PUBLIC if m != "mtl_keras"])
def test_public_objects_have_docstrings(module):
    found = importlib.import_module(module)
    for name in found.__all__:
        assert getattr(found, name).__doc__, f"{module}.{name}"


def _modules_after(code):
    script = f"import sys\n{code}\nprint(' '.join(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    return set(done.stdout.split())


def test_importing_the_package_imports_nothing_heavy():
    heavy = {"keras", "tensorflow", "numpy", "ai_edge_litert", "typer", "rich", "matplotlib"}
    assert not heavy & _modules_after("import mtl_keras")


@pytest.fixture(scope="module")
def imported():
    """The modules of one process after importing Keras, then the package, then its other public
    packages."""
    steps = ("import keras", "import mtl_keras as m", "[getattr(m, name) for name in m.__all__]")
    code = "\n".join(f"{step}\nprint(' '.join(sorted(sys.modules)))" for step in steps)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}"], check=True, capture_output=True, text=True
    )
    return [set(line.split()) for line in done.stdout.splitlines()]


def test_our_classes_are_registered_and_the_rest_is_left_for_later(imported):
    keras_modules, modules, _ = imported
    found = modules - keras_modules
    assert {
        "mtl_keras.model",
        "mtl_keras.tasks.task_output",
        "mtl_keras.balancing.uncertainty",
    } <= found
    late = {
        "mtl_keras.export",
        "mtl_keras.zoo",
        "mtl_keras.analysis",
        "matplotlib.figure",
        "typer",
        "ai_edge_litert",
    }
    assert not late & found
    # Beside its own modules it brings next to nothing that Keras has not imported already.
    others = {name.split(".")[0] for name in found} - {"mtl_keras"}
    assert len(others) <= 5, others


_REGISTERED = """
import keras
for name in ("MultiTaskModel", "TaskOutput", "WordTokenizer"):
    assert keras.saving.get_registered_object(f"mtl_keras>{name}") is not None, name
"""


@pytest.mark.parametrize(
    "code",
    [
        "import mtl_keras",
        pytest.param("import keras, mtl_keras", marks=pytest.mark.large),
        pytest.param("import mtl_keras, tensorflow", marks=pytest.mark.large),
        pytest.param("from mtl_keras.tasks import Binary", marks=pytest.mark.large),
        pytest.param("from mtl_keras.model import MultiTaskModel", marks=pytest.mark.large),
        pytest.param("from mtl_keras import export", marks=pytest.mark.large),
        pytest.param(
            "import mtl_keras, importlib.util as u; u.find_spec('keras')", marks=pytest.mark.large
        ),
        pytest.param("from mtl_keras import runtime", marks=pytest.mark.large),
    ],
)
def test_classes_are_registered_whatever_is_imported_first(code):
    _modules_after(code + _REGISTERED)


def test_an_import_of_keras_that_fails_is_tried_again(tmp_path):
    """A module named `keras` that raises at first: our classes wait for the import that
    succeeds."""
    (tmp_path / "keras.py").write_text(
        "import os\nif os.environ.get('FAIL'): raise ImportError('not now')"
    )
    code = f"""
import os, sys
sys.path.insert(0, {str(tmp_path)!r})
import mtl_keras
calls = []
mtl_keras._register_classes = lambda: calls.append(sys.modules["keras"])
os.environ["FAIL"] = "1"
try: import keras
except ImportError: pass
assert not calls
del os.environ["FAIL"]
import keras
assert calls == [keras]
"""
    _modules_after(code)


def test_the_library_never_imports_the_legacy_keras(imported):
    assert "mtl_keras.export" in imported[2]
    assert not {"tf_keras", "tensorflow_model_optimization"} & imported[2]


def test_the_command_line_starts_without_tensorflow():
    for arguments in (
        ["--help"],
        ["zoo", "list"],
        ["zoo", "info", "--help"],
        ["data", "list"],
        ["--version"],
    ):
        code = (
            f"sys.argv = ['mtl-keras', *{arguments!r}]\n"
            "import contextlib, io\n"
            "from mtl_keras.cli import main\n"
            "with contextlib.redirect_stdout(io.StringIO()):\n"
            "    try: main()\n"
            "    except SystemExit as stop: assert not stop.code, stop.code\n"
        )
        assert not {"tensorflow", "keras"} & _modules_after(code), arguments


# ------------------------------------------------------------------ a checkout, and what is handed on of it
ROOT = Path(__file__).parents[1]


def test_a_checkout_that_nobody_installed_has_its_zoo():
    code = f"""
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in str(finder).lower()]
sys.path.insert(0, {str(ROOT)!r})
sys.argv = ["mtl-keras"]  # our command: it waits for no TensorFlow
import mtl_keras.zoo
assert mtl_keras.zoo.__file__ == {str(ROOT / "zoo" / "__init__.py")!r}, mtl_keras.zoo.__file__
print(mtl_keras.zoo.info("flights")["name"], mtl_keras.zoo.path("flights"))
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.stdout.split() == ["flights", str(ROOT / "saved_models" / "flights")], done.stderr


def test_types_are_shipped():
    assert (Path(mtl.__file__).parent / "py.typed").is_file()
    assert "mtl_keras = py.typed" in (ROOT / "setup.cfg").read_text()


@pytest.mark.large
def test_the_source_distribution_holds_what_its_tests_need(tmp_path):
    pytest.importorskip("setuptools")
    for name in ("mtl_keras", "zoo", "saved_models", "tests", "docs", "benchmarks", ".ci"):
        shutil.copytree(
            ROOT / name,
            tmp_path / "src" / name,
            ignore=shutil.ignore_patterns("__pycache__", "venv"),
        )
    for file in ROOT.iterdir():
        if file.is_file() and not file.name.startswith("."):
            shutil.copyfile(file, tmp_path / "src" / file.name)
    code = f"from setuptools import build_meta; print(build_meta.build_sdist({str(tmp_path)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "src",
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with tarfile.open(tmp_path / done.stdout.splitlines()[-1]) as archive:
        archive.extractall(tmp_path / "out")
    unpacked = next((tmp_path / "out").iterdir())
    source = tmp_path / "src"
    expected = {
        str(f.relative_to(source))
        for f in source.rglob("*")
        if f.is_file() and "egg-info" not in str(f)
    }
    assert not expected - {str(f.relative_to(unpacked)) for f in unpacked.rglob("*")}
    # Its own tests, on its own code.
    some = [
        "tests/runtime/test_names.py",
        "tests/runtime/test_encoders.py",
        "tests/runtime/test_metadata.py",
    ]
    code = (
        "import sys, pytest; sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in "
        "str(f).lower()]; "
        "sys.path.insert(0, ''); import mtl_keras; assert "
        "mtl_keras.__file__.startswith(sys.argv[1]), mtl_keras.__file__; "
        "sys.exit(pytest.main(['-n', '0', *sys.argv[2:]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(unpacked), *some],
        cwd=unpacked,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
