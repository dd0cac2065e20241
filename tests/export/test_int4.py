"""Weights in int4: sizes, error against an independent rounding, blocks."""

import numpy as np
import pytest

import mtl_keras as mtl
from mtl_keras.runtime import flatbuffer


def wide_model(columns=64):
    tasks = [mtl.tasks.Regression("cost", hidden=32), mtl.tasks.Binary("sold", hidden=32)]
    return mtl.builders.hard_sharing(
        (columns,), tasks, backbone="mlp", backbone_options={"widths": (128,)}
    )


def weights_of(path, layer):
    """What a file stores of a fully connected layer's weights, and their quantization."""
    model = flatbuffer.read(path.read_bytes())
    graph = model.subgraphs[0]
    op = next(
        op for op in graph.operators if layer in flatbuffer.text(graph.tensors[op.outputs[0]].name)
    )
    tensor = graph.tensors[op.inputs[1]]
    raw = np.asarray(bytearray(model.buffers[tensor.buffer].data), "uint8")
    # Two numbers a byte, the lower half first.
    values = np.stack([raw & 15, raw >> 4], -1).reshape(-1)[: np.prod(tensor.shape)].astype("int8")
    return np.where(values > 7, values - 16, values).reshape(tensor.shape), tensor.quantization


def test_a_scale_per_channel_is_the_nearest_of_fifteen_steps(tmp_path):
    model = wide_model()
    mtl.export.tflite(model, tmp_path / "model.tflite", "int4")
    kernel = model.get_layer("cost_hidden").get_weights()[0].T
    stored, quantization = weights_of(tmp_path / "model.tflite", "cost_hidden")
    scales = np.asarray(quantization.scale)[:, None]
    assert len(scales) == len(kernel)
    np.testing.assert_allclose(scales[:, 0], np.abs(kernel).max(1) / 7, rtol=1e-5)
    assert np.abs(stored * scales - kernel).max() <= scales.max() / 2 * 1.001


@pytest.mark.large
def test_blocks_are_finer_than_channels_where_a_weight_stands_out(tmp_path):
    model = wide_model()
    layer = model.get_layer("cost_hidden")
    kernel, bias = layer.get_weights()
    # One weight of each channel is six times the others: with a scale per channel little is left of
    # these.
    kernel[0] = 6 * np.abs(kernel).max()
    layer.set_weights([kernel, bias])
    x = np.random.default_rng(0).standard_normal((64, 64)).astype("float32")
    errors = {}
    for kind in ("int4", "int4_block32"):
        report = mtl.export.tflite(model, tmp_path / f"{kind}.tflite", kind, samples=x)
        errors[kind] = next(head.mean for head in report.heads if head.name == "cost")
    assert errors["int4_block32"] < 0.8 * errors["int4"]
    assert (
        mtl.export.TFLiteModel(tmp_path / "int4_block32.tflite").facts["quantization"]
        == "int4_block32"
    )


def test_files_shrink_and_heads_keep_names_and_order(tmp_path):
    model = wide_model(256)
    sizes = {
        kind: mtl.export.tflite(model, tmp_path / f"{kind}.tflite", kind).size
        for kind in (None, "dynamic", "int4")
    }
    assert sizes["int4"] < sizes["dynamic"] < sizes[None]
    assert list(mtl.export.TFLiteModel(tmp_path / "int4.tflite").outputs) == ["cost", "sold"]


@pytest.mark.large
def test_convolutions_run(tmp_path):
    tasks = [
        mtl.tasks.Classification("kind", num_classes=3),
        mtl.tasks.Segmentation("mask", channels=4),
    ]
    model = mtl.builders.hard_sharing(
        (16, 16, 1), tasks, backbone_options={"widths": (8, 16), "depth": 1}
    )
    report = mtl.export.tflite(model, tmp_path / "model.tflite", "int4_block32")
    assert [head.name for head in report.heads] == ["kind", "mask"]


def test_an_unknown_kind_lists_int4(tmp_path):
    with pytest.raises(ValueError, match="int4_block32"):
        mtl.export.tflite(wide_model(), tmp_path / "model.tflite", "int4_block16")
