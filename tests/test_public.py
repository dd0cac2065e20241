"""What the package shows, and what importing it costs."""

import importlib
import subprocess
import sys

import pytest

import mtl_keras as mtl

PUBLIC = {
    "mtl_keras": "MultiTaskModel __version__ analysis backbones balancing builders callbacks data export layers tasks training zoo",
    "mtl_keras.tasks": "Binary BoundingBox Classification Depth Detection Embedding Keypoints MultiLabel Normals Ordinal "
    "Regression Segmentation SequenceTranscription Task TaskMetric TokenTagging",
    "mtl_keras.builders": "adapters aitm branches cgc complete_inputs cross_modal cross_stitch dselect_k esmm hard_sharing "
    "hierarchical layerwise learned_branching mmoe mtan multi_input nddr omoe ple sluice soft_sharing "
    "task_gated tensor_factorized",
    "mtl_keras.backbones": "bilstm deep_cross efficientnet_lite0 efficientnet_v2_b0 fpn frame_cnn get gru log_mel_cnn lstm "
    "mlp mobilenet_v2 mobilenet_v3_small resnet small_cnn text_cnn transformer",
    "mtl_keras.layers": "BlockIdentity BranchChoice BranchPath CategoricalEmbedding Cross CrossStitch DSelectKGate Experts "
    "FactorizedConv1D FactorizedConv2D FactorizedDense FakeQuantize FiLM FoldFrames Gate InformationTransfer LogMel "
    "MaskedMean MaskedSelfAttention Mixture ModalityAttention ModalityDefault MutualInformation OrderCalibrator "
    "OrdinalThresholds PaddingMask PositionEmbedding ProbabilityProduct QuantizedWeights RawImage SoftArgmax StageMixture "
    "SubspaceStitch TaskOutput UnfoldFrames WeightTie",
    "mtl_keras.balancing": "AlignedMTL AutoLambda Balancer CAGrad Chain Chebyshev ConFIG DBMTL DWA DualProj EMA Equal "
    "ExcessMTL FAMO FairGrad GLS GradDrop GradNorm GradVac GradientBalancer GramBalancer IMTL IMTLG IMTLL Krum LogLoss MGDA "
    "MetaBalance MoCo MoDo NashMTL PBI PCGrad RLW SDMGrad STCH Static TrimmedMean UPGrad Uncertainty get list names register",
    "mtl_keras.export": "BenchmarkReport CompressionReport ExportError ExportReport HeadReport TFLiteModel benchmark compress "
    "float_twin quantization_aware run_tflite saved_model snippets split tflite web_page with_raw_images",
    "mtl_keras.analysis": "DeltaReport collect delta_m delta_report judging_metrics score trivial",
    "mtl_keras.data": "CharTokenizer DataError HashingTokenizer ImageEncoder TableEncoder WordTokenizer batches complete "
    "encoders fashion_scenes fetch labels mix sources",
    "mtl_keras.training": "BalanceMonitor Progress balanced_gradients observe_updated_losses",
    "mtl_keras.zoo": "build export info list load path recipe train",
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
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def test_importing_the_package_makes_saved_models_loadable_and_leaves_the_rest_for_later():
    found = _modules_after("import mtl_keras") - _modules_after("import keras")
    assert {"mtl_keras.model", "mtl_keras.layers.task_output", "mtl_keras.balancing.uncertainty"} <= found
    late = {"mtl_keras.export", "mtl_keras.zoo", "mtl_keras.analysis", "matplotlib.figure", "typer", "ai_edge_litert"}
    assert not late & found
    # Beside its own modules it brings next to nothing that Keras has not imported already.
    others = {name.split(".")[0] for name in found} - {"mtl_keras"}
    assert len(others) <= 5, others


def test_the_library_never_imports_the_legacy_keras():
    found = _modules_after("import mtl_keras as m; m.export, m.zoo, m.analysis, m.callbacks, m.data")
    assert not {"tf_keras", "tensorflow_model_optimization"} & found


def test_the_command_line_starts_without_tensorflow():
    for arguments in (["--help"], ["zoo", "list"], ["zoo", "info", "--help"], ["data", "list"], ["--version"]):
        code = (
            f"sys.argv = ['mtl-keras', *{arguments!r}]\n"
            "import contextlib, io\n"
            "from mtl_keras.cli import main\n"
            "with contextlib.redirect_stdout(io.StringIO()):\n"
            "    try: main()\n"
            "    except SystemExit as stop: assert not stop.code, stop.code\n"
        )
        assert not {"tensorflow", "keras"} & _modules_after(code), arguments
