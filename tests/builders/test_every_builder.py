"""Every builder on every kind of input: trains, is saved and loaded, and goes to the phone, or says
why not.

The table in docs/sharing.md is what these tests find:
`pytest tests/builders/test_every_builder.py -n0 --run-large --write-tables` writes it, and every
other run compares.
"""

import functools
import inspect
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import mtl_keras as mtl
from mtl_keras.export import ExportError
from mtl_keras.graph import split

DOCS = Path(__file__).parents[2] / "docs" / "sharing.md"
KINDS = ("image", "text", "table")
BUILDERS = [
    name
    for name in mtl.builders.__all__
    if inspect.isfunction(getattr(mtl.builders, name))
    and "tasks" in inspect.signature(getattr(mtl.builders, name)).parameters
]
ROWS = 8
_RNG = np.random.default_rng(0)
INPUTS = {
    "image": _RNG.random((ROWS, 16, 16, 1)).astype("float32"),
    "text": _RNG.integers(1, 9, (ROWS, 6)).astype("int32"),
    "table": _RNG.standard_normal((ROWS, 5)).astype("float32"),
}
BACKBONES = {
    "image": ("small_cnn", {"widths": (4, 8), "depth": 1}),
    "text": (
        "text_cnn",
        {"vocabulary_size": 10, "embedding_dim": 4, "filters": 2, "windows": (2, 3)},
    ),
    "table": ("mlp", {"widths": (8, 6)}),
}
#: Arguments that a builder needs, or that keep its network small.
EXTRA = {
    "layerwise": lambda tasks: {"task_stages": {tasks[1].name: "stage1"}},
    "hierarchical": lambda tasks: {"task_stages": {tasks[1].name: "stage1"}},
    "task_gated": lambda tasks: {"channels": 4, "stages": ["stage1", "stage2"]},
    "adapters": lambda tasks: {"units": 2},
    "sluice": lambda tasks: {"subspaces": 2},
    "tensor_factorized": lambda tasks: {"rank": 2},
    **{name: lambda tasks: {"units": 6} for name in ("mmoe", "omoe", "dselect_k", "cgc", "ple")},
    **{name: lambda tasks: {"units": (6,)} for name in ("esmm", "aitm")},
}
NO_SHARED = "no gradient method: no variable is shared"


def tasks_for(builder, kind):
    if builder in ("esmm", "aitm"):
        return [mtl.tasks.Binary("click", hidden=0), mtl.tasks.Binary("bought", hidden=0)]
    if kind == "image" and builder != "cross_modal":
        return [
            mtl.tasks.Classification("kind", num_classes=3, hidden=4),
            mtl.tasks.Segmentation("mask", channels=4),
        ]
    return [mtl.tasks.Regression("cost", hidden=0), mtl.tasks.Binary("sold", hidden=0)]


LABELS = {
    "kind": np.arange(ROWS) % 3,
    "mask": (INPUTS["image"][..., 0] > 0.5).astype("int32"),
    "click": np.arange(ROWS) % 2,
    "bought": np.arange(ROWS) // 4 % 2,
    "cost": np.linspace(-1, 1, ROWS).astype("float32"),
    "sold": np.arange(ROWS) // 2 % 2,
}


def network(builder, kind):
    """A small network of this builder on this kind of input, with data for it."""
    tasks, x = tasks_for(builder, kind), INPUTS[kind]
    backbone, options = BACKBONES[kind]
    y = {task.name: LABELS[task.name] for task in tasks}
    make = getattr(mtl.builders, builder)
    if builder == "cross_modal":
        shapes = {"main": x.shape[1:], "side": (5,)}
        fusion = {"image": "early", "text": "late", "table": "attention"}[kind]
        model = make(
            shapes,
            tasks,
            {"main": backbone, "side": "mlp"},
            fusion=fusion,
            units=4,
            fusion_units=(4,),
            optional=("main",),
            backbone_options={"main": options, "side": {"widths": (4,)}},
        )
        return (
            model,
            {"main": x, "side": INPUTS["table"], "main_present": np.ones((ROWS, 1), "float32")},
            y,
        )
    if builder == "multi_input":
        shapes = {task.name: x.shape[1:] for task in tasks}
        model = make(shapes, tasks, backbone, backbone_options=options)
        return model, {f"{task.name}_input": x for task in tasks}, y
    shape = {"tokens": x.shape[1:]} if kind == "text" else x.shape[1:]
    extra = EXTRA.get(builder, lambda tasks: {})(tasks)
    return make(shape, tasks, backbone=backbone, backbone_options=options, **extra), x, y


def _cases(quick):
    """Every builder on every kind of input; all but the quick ones are large tests."""
    return [
        pytest.param(builder, kind, marks=() if quick(i, kind) else pytest.mark.large)
        for i, builder in enumerate(BUILDERS)
        for kind in KINDS
    ]


@pytest.mark.parametrize(("builder", "kind"), _cases(lambda i, kind: kind == KINDS[i % 3]))
def test_it_keeps_what_every_builder_promises(builder, kind):
    try:
        model, x, y = network(builder, kind)
    except ValueError as error:
        assert str(error)  # the table says which builders do not take which inputs
        return
    build = functools.partial(_build, builder, kind)
    functools.update_wrapper(build, getattr(mtl.builders, builder))
    mtl.testing.run_builder_test(build, {"tasks": model.tasks}, x, y, balancers=("cagrad",))


def _build(builder, kind, tasks):
    model = network(builder, kind)[0]
    assert model.task_names == [task.name for task in tasks]
    return model


#: Exported in the default run: an image of two heads, text, and a table.
EXPORTED = {("layerwise", "image"), ("hard_sharing", "text"), ("mmoe", "table")}


@pytest.mark.parametrize(
    ("builder", "kind"), _cases(lambda i, kind: (BUILDERS[i], kind) in EXPORTED)
)
def test_it_goes_to_the_phone_or_says_why_not(builder, kind, tmp_path, table):
    exported, refusals = [], []
    try:
        model, x, _ = network(builder, kind)
    except ValueError as error:
        table(builder, kind, f"no: {error}")
        return
    try:
        model.compile("adam", balancer="cagrad")
    except ValueError as error:
        assert "no two tasks of this model share any" in str(error)
        refusals.append(NO_SHARED)
    for quantization in (None, "int8"):
        try:
            report = mtl.export.tflite(
                model, tmp_path / "m.tflite", quantization=quantization, calibration=x
            )
            assert [head.name for head in report.heads] == model.task_names
            if kind == "image":
                assert _largest_rank(tmp_path / "m.tflite") <= 4
            exported.append(quantization or "float")
        except ExportError as error:
            refusals.append(f"{quantization or 'float'}: {error}")
    table(builder, kind, "; ".join([", ".join(exported), *refusals]))


def _largest_rank(path):
    """The largest number of axes of a tensor in a TFLite file: older runtimes and GPU delegates
    stop at four."""
    with open(path, "rb") as file:
        interpreter = Interpreter(model_content=file.read())
    return max(len(tensor["shape"]) for tensor in interpreter.get_tensor_details())


STREAMS = {
    "adapters",
    "cross_stitch",
    "learned_branching",
    "multi_input",
    "nddr",
    "sluice",
    "soft_sharing",
    "tensor_factorized",
}


@pytest.mark.large
@pytest.mark.parametrize(("builder", "kind"), [(b, KINDS[i % 3]) for i, b in enumerate(BUILDERS)])
def test_heads_computed_from_the_representation_are_the_networks(builder, kind):
    """Before it is saved, too, when the backbone's layers have been called elsewhere. Builders of
    streams name none."""
    try:
        model, x, _ = network(builder, kind)
    except ValueError:
        model, x, _ = network(builder, "table")
    if builder in STREAMS:
        assert not model.representation
        return
    trunk, heads, more = split(model, model.representation)
    shared = [*trunk(x).values(), *(keras.tree.flatten(x) if more else ())]
    found, whole = heads(shared), model(x)
    for name in whole:
        np.testing.assert_allclose(found[name], whole[name], atol=1e-6)


# ------------------------------------------------------------------ the table of the docs
@pytest.fixture(scope="module")
def _cells(request):
    """What this run finds; written to the docs where that was asked for."""
    cells = {}
    yield cells
    if request.config.getoption("--write-tables"):
        missing = [f"{b} on {k}" for b in BUILDERS for k in KINDS if (b, k) not in cells]
        assert not missing, (
            f"run all of these tests in one process (-n0) to write the table; missing: {missing}"
        )
        lines = [f"| builder | {' | '.join(KINDS)} |", "|---|---|---|---|"]
        lines += [f"| `{b}` | " + " | ".join(cells[b, k] for k in KINDS) + " |" for b in BUILDERS]
        text = DOCS.read_text()
        before, after = text.split("<!-- table -->\n")[0], text.split("<!-- end of table -->")[1]
        DOCS.write_text(
            before + "<!-- table -->\n" + "\n".join(lines) + "\n<!-- end of table -->" + after
        )


@pytest.fixture
def table(request, _cells):
    """Takes what was found, and compares it with the docs."""

    def check(builder, kind, cell):
        _cells[builder, kind] = cell
        if not request.config.getoption("--write-tables"):
            row = next(
                (
                    line
                    for line in DOCS.read_text().splitlines()
                    if line.startswith(f"| `{builder}` |")
                ),
                None,
            )
            assert row is not None, (
                f"docs/sharing.md has no row for {builder}: run with -n0 --run-large --write-tables"
            )
            assert re.split(r" \| ", row.strip("| "))[1 + KINDS.index(kind)] == cell

    return check


def test_the_table_has_a_row_for_every_builder_and_no_other(request):
    if request.config.getoption("--write-tables"):
        pytest.skip("the table is being written")
    table = DOCS.read_text().split("<!-- table -->\n")[1].split("<!-- end of table -->")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, flags=re.M) == BUILDERS
