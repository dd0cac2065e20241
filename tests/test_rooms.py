"""A room imports only from the rooms under it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: The house, top to bottom, as `docs/architecture.md` draws it. Rooms of one line do not import
#: each other.
HOUSE = [
    {"__main__"},
    {"cli"},
    {"zoo"},
    {"testing"},
    {"export"},
    {"analysis"},
    {"training", "callbacks"},
    {"builders"},
    {"model"},
    {"trainer"},
    {"balancing", "backbones"},
    {"data"},
    {"tasks"},
    {"layers"},
    {"graph"},
    {"runtime"},
    {"quiet", "version"},
]
#: What may look up, and why.
EXCEPTIONS = {
    ("model", "builders"): "`MultiTaskModel.from_keras` is a builder that is called on the class",
}


def _modules():
    """`(room, file)` of every module."""
    for folder, prefix in ((ROOT / "mtl_keras", ()), (ROOT / "zoo", ("zoo",))):
        for path in sorted(folder.rglob("*.py")):
            parts = (*prefix, *path.relative_to(folder).with_suffix("").parts)
            yield parts[0], path


def _imported_rooms(path):
    """`(line, room)` of every import of the package's own, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("mtl_keras."):
                yield node.lineno, name.split(".")[1]


def test_every_room_has_its_floor():
    rooms = {room for room, _ in _modules()} - {"__init__"}
    floors = [room for floor in HOUSE for room in floor]
    assert len(floors) == len(set(floors))
    assert rooms <= set(floors), f"give {rooms - set(floors)} a floor"


def test_a_room_imports_only_from_the_rooms_under_it():
    floor_of = {room: number for number, floor in enumerate(HOUSE) for room in floor}
    wrong = []
    for room, path in _modules():
        # The package's own `__init__` opens all rooms.
        if room == "__init__":
            continue
        for line, other in _imported_rooms(path):
            # Names of the package itself, such as `mtl_keras.MultiTaskModel`.
            if other not in floor_of or other == room or (room, other) in EXCEPTIONS:
                continue
            if floor_of[other] <= floor_of[room]:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {room} imports {other}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "package", ["balancing", "tasks", "layers", "trainer", "trainer/strategies"]
)
def test_modules_of_a_package_import_each_other_in_one_direction(package):
    folder = ROOT / "mtl_keras" / package
    prefix = f"mtl_keras.{package.replace('/', '.')}."
    edges = {}
    for path in folder.glob("*.py"):
        if path.stem == "__init__":
            continue
        edges[path.stem] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(prefix):
                edges[path.stem].add(node.module.removeprefix(prefix).split(".")[0])
    done, waiting = set(), set(edges)
    while waiting:
        free = {module for module in waiting if edges[module] & set(edges) <= done | {module}}
        assert free, f"a circle among {sorted(waiting)}"
        done, waiting = done | free, waiting - free
