"""What a file says of itself: the tasks' metadata as JSON, and standard TFLite metadata.

Standard metadata is what generic tools (MediaPipe Tasks, ML Kit, Android Studio) read: what each
tensor is, how pixels become numbers, labels in a zip archive behind the network. TensorFlow's
writer was given up in 2023; MediaPipe's does not import as it is released (1.2.2), and asks for an
absl that TensorFlow Model Optimization refuses: the few tables needed are packed here.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np

from mtl_keras.runtime.decoding import SUFFIX
from mtl_keras.runtime.files import ExportError
from mtl_keras.runtime.flatbuffer import read, text, write

__all__ = ["ENTRY", "STANDARD", "describe", "facts_of"]

ENTRY, STANDARD = "mtl_keras", "TFLITE_METADATA"

#: Tables of `metadata_schema.fbs` and their fields, in the schema's order; a union is two fields.
_SCHEMA = {
    "ModelMetadata": "name description version subgraph_metadata author license associated_files "
    "min_parser_version",
    "SubGraphMetadata": "name description input_tensor_metadata output_tensor_metadata",
    "TensorMetadata": "name description dimension_names content process_units stats "
    "associated_files",
    "Content": "content_properties_type content_properties",
    "FeatureProperties": "",
    "ImageProperties": "color_space default_size",
    "BoundingBoxProperties": "index type coordinate_type",
    "ProcessUnit": "options_type options",
    "NormalizationOptions": "mean std",
    "ScoreThresholdingOptions": "global_score_threshold",
    "Stats": "max min",
    "AssociatedFile": "name description type",
}
_UNIONS = {
    "FeatureProperties": 1, "ImageProperties": 2, "BoundingBoxProperties": 3,
    "NormalizationOptions": 1, "ScoreThresholdingOptions": 3,
}  # fmt: skip
_RGB, _GRAYSCALE, _AXIS_LABELS, _BOUNDARIES = 1, 2, 2, 1


def describe(content: bytes, facts: Mapping[str, Any]) -> bytes:
    """Put facts into a file: all of them as JSON, in an entry `mtl_keras`, and as standard metadata
    what that has words for.

    Runtimes pass over both. Labels follow the network as a zip archive of `<task>_labels.txt`.
    """
    model = read(content)
    files: dict[str, str] = {}
    entries = {ENTRY: json.dumps(facts).encode(), STANDARD: _standard(model, facts, files)}
    model.metadata = [entry for entry in model.metadata or () if text(entry.name) not in entries]
    for name, data in entries.items():
        _add(model, name, data)
    whole = io.BytesIO(write(model))
    if files:
        with zipfile.ZipFile(whole, "a") as archive:
            for name, value in files.items():
                archive.writestr(
                    zipfile.ZipInfo(name), value
                )  # without the time: equal networks make equal files
    return whole.getvalue()


def _add(model: Any, name: str, data: bytes) -> None:
    from ai_edge_litert import schema_py_generated as schema

    buffer = schema.BufferT()
    buffer.data = np.frombuffer(data, np.uint8)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = name, len(model.buffers) - 1
    model.metadata.append(entry)


def facts_of(content: bytes) -> dict[str, Any] | None:
    """What `describe` put into a file, or None.

    Raises:
        ExportError: no TFLite file.
    """
    if content[4:8] != b"TFL3":
        raise ExportError("This is no TFLite file: it does not begin as one.")
    try:
        model = read(content)
        for entry in model.metadata or ():
            if text(entry.name) == ENTRY:
                return json.loads(bytes(bytearray(model.buffers[entry.buffer].data)))
    except (struct.error, IndexError, ValueError, TypeError) as error:
        raise ExportError(f"The TFLite file is damaged: {error}.") from None
    return None


# ------------------------------------------------------------------ standard metadata
def _standard(model: Any, facts: Mapping[str, Any], files: dict[str, str]) -> bytes:
    """The file's first graph in standard words. Label files are put into `files`."""
    graph, signature = model.subgraphs[0], model.signatureDefs[0]
    names = {entry.tensorIndex: text(entry.name) for entry in signature.inputs}
    heads = [text(entry.name) for entry in signature.outputs]
    entries = {entry["name"]: entry for entry in facts["inputs"]}
    tasks = {task["name"]: task for task in facts["tasks"]}
    inputs = [
        _input(names[i], graph.tensors[i], entries, facts.get("encoder")) for i in graph.inputs
    ]
    outputs = [_output(name, tasks, files) for name in heads]
    main = _table(
        "SubGraphMetadata",
        name="serving_default",
        input_tensor_metadata=inputs,
        output_tensor_metadata=outputs,
    )
    whole = _table(
        "ModelMetadata",
        name=facts["model"],
        description=f"Written by mtl_keras {facts['mtl_keras']}: {', '.join(heads)}.",
        subgraph_metadata=[main],
        min_parser_version="1.0.0",
    )
    builder = flatbuffers.Builder(1024)
    builder.Finish(_pack(builder, whole), b"M001")
    return bytes(builder.Output())


def _input(
    name: str, tensor: Any, entries: Mapping[str, Any], encoder: Mapping[str, Any] | None
) -> dict[int, Any]:
    entry = entries.get(name, {})
    shape, span = list(tensor.shape), entry.get("range")
    fields: dict[str, Any] = {"name": name, "content": _content("FeatureProperties")}
    if span is not None:
        fields["stats"] = _table(
            "Stats", max=np.array(span[1:], "float32"), min=np.array(span[:1], "float32")
        )
    if len(shape) == 4 and shape[-1] in (1, 3):
        fields["content"] = _content(
            "ImageProperties", color_space=_RGB if shape[-1] == 3 else _GRAYSCALE
        )
        factor, offset = None, 0.0
        if entry.get("dtype") == "uint8":
            factor = 1.0
        elif (
            encoder is not None
            and encoder["config"].get("name") == name
            and encoder["config"].get("scale")
        ):
            factor = encoder["config"]["scale"]
        elif span is not None and span[1] > span[0]:
            factor, offset = (span[1] - span[0]) / 255, span[0]
        if factor is not None:
            # A byte becomes (byte - mean) / std.
            values = {
                "mean": np.array([-offset / factor], "float32"),
                "std": np.array([1 / factor], "float32"),
            }
            fields["process_units"] = [
                _union("ProcessUnit", "options", "NormalizationOptions", **values)
            ]
    return _table("TensorMetadata", **fields)


def _output(
    name: str, tasks: Mapping[str, Mapping[str, Any]], files: dict[str, str]
) -> dict[int, Any]:
    task = tasks.get(name)
    fields: dict[str, Any] = {"name": name, "content": _content("FeatureProperties")}
    if task is None:
        if name.endswith(SUFFIX) and name.removesuffix(SUFFIX) in tasks:
            fields["description"] = f"{name.removesuffix(SUFFIX)}, decoded"
        return _table("TensorMetadata", **fields)
    words = [
        task["kind"],
        *(f"{key}: {task[key]}" for key in ("activation", "format", "unit") if task.get(key)),
    ]
    fields["description"] = ", ".join(words)
    if task["kind"] == "bounding_box":
        order = np.arange(4, dtype="uint32")
        fields["content"] = _content(
            "BoundingBoxProperties", index=order, type=_BOUNDARIES
        )  # left, top, right, bottom
    number = task.get("num_labels" if task["kind"] == "multi_label" else "num_classes", 1)
    if task["kind"] in ("classification", "multi_label", "segmentation") and number > 1:
        file = f"{name}_labels.txt"
        labels = task.get("labels") or range(number)
        files[file] = "".join(f"{' '.join(str(label).splitlines())}\n" for label in labels)
        labels_file = _table(
            "AssociatedFile", name=file, description="A label a line, in order.", type=_AXIS_LABELS
        )
        fields["associated_files"] = [labels_file]
    if task.get("activation") in ("sigmoid", "softmax"):
        fields["stats"] = _table(
            "Stats", max=np.array([1], "float32"), min=np.array([0], "float32")
        )
    if task["kind"] in ("binary", "multi_label"):
        limit = {"global_score_threshold": float(task["threshold"])}
        fields["process_units"] = [
            _union("ProcessUnit", "options", "ScoreThresholdingOptions", **limit)
        ]
    return _table("TensorMetadata", **fields)


def _content(kind: str, **fields: Any) -> dict[int, Any]:
    return _union("Content", "content_properties", kind, **fields)


def _union(table: str, field: str, kind: str, **fields: Any) -> dict[int, Any]:
    return _table(table, **{f"{field}_type": _UNIONS[kind], field: _table(kind, **fields)})


def _table(kind: str, **fields: Any) -> dict[int, Any]:
    """A table to be packed: values by the number of their field."""
    order = _SCHEMA[kind].split()
    return {order.index(name): value for name, value in fields.items()}


def _pack(builder: flatbuffers.Builder, table: Mapping[int, Any]) -> int:
    """Write a table, what it refers to first; returns where it stands."""
    offsets = {
        field: _write_value(builder, value)
        for field, value in table.items()
        if not isinstance(value, (int, float))
    }
    builder.StartObject(max(table, default=-1) + 1)
    for field, value in table.items():
        if isinstance(value, float):
            builder.PrependFloat32Slot(field, value, 0.0)
        elif isinstance(value, int):
            builder.PrependUint8Slot(field, value, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(field, offsets[field], 0)
    return builder.EndObject()


def _write_value(
    builder: flatbuffers.Builder,
    value: str | np.ndarray | Mapping[int, Any] | Sequence[Mapping[int, Any]],
) -> int:
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, np.ndarray):
        return builder.CreateNumpyVector(value)
    if isinstance(value, Mapping):
        return _pack(builder, value)
    offsets = [_pack(builder, one) for one in value]
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()
