"""The table of docs/data.md says what happens to each kind of label; `pytest -n0
tests/data/test_augment_table.py --write-tables` writes it."""

import re
from pathlib import Path

import mtl_keras as mtl
from mtl_keras.data import augment
from mtl_keras.data.augment import augmenter, labels
from mtl_keras.data.augment.step import KINDS, get_step

PAGE = Path(__file__).parents[2] / "docs" / "data.md"
TABLE = re.compile(r"(<!-- augmentation -->\n)(.*?)(<!-- end of augmentation -->)", re.DOTALL)
T = mtl.tasks


def _tasks():
    special = {
        "TokenTagging": lambda: T.TokenTagging("t", 2),
        "SequenceTranscription": lambda: T.SequenceTranscription("t", "ab"),
        "Keypoints": lambda: T.Keypoints("t", 2, swaps=[]),
    }
    for name in T.__all__:
        cls = getattr(T, name)
        if isinstance(cls, type) and issubclass(cls, T.Task) and cls is not T.Task:
            needs_size = name in ("Classification", "Ordinal", "MultiLabel")
            make = special.get(name, lambda c=cls, n=needs_size: c("t", 3) if n else c("t"))
            yield name, make()


def _own_steps():
    """The library's steps by kind and name; those that other tests register are left out."""
    for kind in KINDS:
        for name in augment.list_steps(kind):
            step = get_step(name, kind)
            if type(step).__module__.startswith("mtl_keras."):
                yield name, step


def _steps():
    """Steps by their effect on labels, in the order of the table's columns."""
    groups = {effect: {} for effect in labels.EFFECTS}
    for name, step in _own_steps():
        groups[step.effect].setdefault(name, step)
    # "scale" is a zoom of pictures, and of series a factor that leaves labels alone.
    groups["none"].pop("scale", None)
    return {effect: steps for effect, steps in groups.items() if steps}


def _table():
    groups = _steps()
    heads = [
        "all others" if e == "none" else ", ".join(f"`{s}`" for s in groups[e]) for e in groups
    ]
    lines = ["| labels | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    rows = {}
    for name, task in _tasks():
        cells = []
        for effect, steps in groups.items():
            refused = {augmenter.explain_refusal(step, task) is not None for step in steps.values()}
            assert len(refused) == 1, "steps of one effect are refused together"
            text = labels.rule_of(task).texts.get(effect, "unchanged")
            assert effect == "none" or (effect in labels.rule_of(task).texts) != refused.pop()
            cells.append(text if effect in ("none", *labels.rule_of(task).texts) else "refused")
        rows.setdefault(tuple(cells), []).append(f"`{name}`")
    lines += ["| " + " | ".join([", ".join(names), *cells]) + " |" for cells, names in rows.items()]
    return "\n".join(lines) + "\n"


def test_the_table_of_the_docs_is_what_the_code_does(request):
    text = PAGE.read_text(encoding="utf-8")
    if request.config.getoption("--write-tables"):
        text = TABLE.sub(lambda match: match[1] + _table() + match[3], text)
        PAGE.write_text(text, encoding="utf-8")
    assert TABLE.search(text)[2] == _table()


def test_every_step_stands_in_the_docs():
    section = PAGE.read_text(encoding="utf-8").split("## Augmentation")[1].split("\n## ")[0]
    for name, _ in _own_steps():
        assert f"`{name}`" in section, name
