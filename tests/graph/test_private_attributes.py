"""Keras's private attributes have one home: `mtl_keras/graph`."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRIVATE = re.compile(
    r"""_keras_history|_inbound_nodes|_outbound_nodes|_nodes_by_depth|_operations_by_depth|_flatten_layers
    |\._operations\b|\._non_trainable_variables\b|\._trainable_variables\b|_run_through_graph|keras\.src""",
    re.VERBOSE,
)


def lines_with_private_attributes(*folders):
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if PRIVATE.search(line)
    ]


def test_only_the_graph_room_uses_keras_private_attributes():
    lines = lines_with_private_attributes("mtl_keras", "zoo", "benchmarks")
    assert [line for line in lines if not line.startswith("mtl_keras/graph/")] == []
    # The search finds what it looks for.
    assert any("_keras_history" in line for line in lines)
    assert any("_flatten_layers" in line for line in lines)


def test_the_graph_room_imports_no_room_above_it():
    imports = {
        line.split()[1]
        for path in (ROOT / "mtl_keras" / "graph").glob("*.py")
        for line in path.read_text().splitlines()
        if re.match(r"(from|import) mtl_keras", line)
    }
    assert imports
    assert all(name.startswith("mtl_keras.graph") for name in imports), imports
