"""One vocabulary over all builders: every argument is a word of the table, and means the same in
each.

`pytest tests/builders/test_vocabulary.py -n0 --write-tables` writes the table of docs/sharing.md,
and every other run compares.
"""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import mtl_keras as mtl
from mtl_keras.builders.arguments import Unpack

DOCS = Path(__file__).parents[2] / "docs" / "sharing.md"
B = mtl.builders
VOCABULARY = B.VOCABULARY
SHARED = ("backbone_options", "encoder", "name")
PARAMETERS = {
    name: dict(inspect.signature(getattr(B, name)).parameters)
    for name in B.__all__
    if inspect.isfunction(getattr(B, name))
    and "tasks" in inspect.signature(getattr(B, name)).parameters
}


def numbers():
    return [mtl.tasks.Regression("cost", hidden=0), mtl.tasks.Binary("sold", hidden=0)]


def steps():
    return [mtl.tasks.Binary("click", hidden=0), mtl.tasks.Binary("bought", hidden=0)]


def small(name, **own):
    """A small network of a builder on vectors of five numbers."""
    mlp = {"widths": (4, 4)}
    needs = {"layerwise": {"task_stages": {}}, "hierarchical": {"task_stages": {"cost": "stage1"}}}
    own = {**needs.get(name, {}), **own}
    if name == "cross_modal":
        return B.cross_modal(
            {"a": (5,)}, numbers(), {"a": "mlp"}, backbone_options={"a": mlp}, **own
        )
    inputs = {"cost": (5,), "sold": (5,)} if name == "multi_input" else (5,)
    tasks = steps() if name in ("esmm", "aitm") else numbers()
    return getattr(B, name)(inputs, tasks, "mlp", backbone_options=mlp, **own)


def missing_words(parameters):
    """The words that a builder uses and the table lacks."""
    return sorted({word for words in parameters.values() for word in words} - set(VOCABULARY))


def test_every_argument_is_a_word_of_the_vocabulary():
    assert len(PARAMETERS) == 21
    assert missing_words(PARAMETERS) == []
    # A word that nobody has given a meaning is noticed.
    assert missing_words({**PARAMETERS, "mine": {"num_experts": None}}) == ["num_experts"]


def test_no_word_is_left_that_no_builder_uses():
    assert {word for words in PARAMETERS.values() for word in words} == set(VOCABULARY)


@pytest.mark.parametrize("name", PARAMETERS)
def test_builders_begin_and_end_alike(name):
    order = list(PARAMETERS[name])
    assert order[:3] == ["inputs", "tasks", "backbones" if name == "cross_modal" else "backbone"]
    assert tuple(order[-3:]) == SHARED
    assert PARAMETERS[name]["name"].default == name
    keywords = [p for p in PARAMETERS[name].values() if p.name not in order[:3]]
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in keywords)


@pytest.mark.parametrize("name", PARAMETERS)
def test_docstrings_describe_every_argument(name):
    described = inspect.getdoc(getattr(B, name)).split("Args:\n")[1].split("\n\n")[0]
    described = re.sub(r"\n {8}", " ", described)
    words = set()
    for line in re.findall(r"^    ([\w, ]+): ", described, flags=re.M):
        words |= {word.strip() for word in line.split(",")}
    assert words == set(PARAMETERS[name])


#: What each word has to be where a builder takes it: a default of one type is one meaning.
TYPES = {
    "units": (int, tuple),
    "experts": int,
    "task_experts": int,
    "shared_experts": int,
    "levels": int,
    "penalty_weight": float,
    "self_weight": float,
    "penalty": str,
}


def test_defaults_of_a_word_are_of_one_type():
    for name, parameters in PARAMETERS.items():
        for word, kind in TYPES.items():
            if word in parameters:
                assert isinstance(parameters[word].default, kind), (name, word)


@pytest.mark.large
@pytest.mark.parametrize("name", PARAMETERS)
def test_every_penalty_is_weighed_by_penalty_weight(name):
    """`penalty_weight=0` takes all that a builder adds to the loss, and builders without the word
    add nothing."""
    has_penalty = "penalty_weight" in PARAMETERS[name]
    model = small(name, **({"penalty_weight": 0.0} if has_penalty else {}))
    assert penalty(model) == 0
    if has_penalty:
        assert penalty(small(name, penalty_weight=1.0)) > 0


def penalty(model):
    """What a model adds to its tasks' losses in one step."""
    rows = np.random.default_rng(0).standard_normal((16, 5)).astype("float32")
    x = {tensor.name: rows for tensor in model.inputs} if len(model.inputs) > 1 else rows
    model(x, training=True)
    return sum(float(loss) for loss in model.losses)


def test_an_unknown_argument_names_those_that_a_builder_takes():
    with pytest.raises(TypeError, match="argument of builder 'cgc': 'expert_units'.*task_experts"):
        B.cgc((5,), numbers(), expert_units=3)
    with pytest.raises(TypeError, match="'encodr'. Did you mean 'encoder'"):
        B.hard_sharing((5,), numbers(), encodr=None)


def test_a_builder_of_ones_own_takes_the_shared_arguments():
    @B.builder
    def own(inputs, tasks, backbone=None, *, units: int = 3, **shared: Unpack[B.SharedArguments]):
        return B.hard_sharing(inputs, tasks, backbone, **shared)

    assert list(inspect.signature(own).parameters)[3:] == ["units", *SHARED]
    assert own((5,), numbers()).name == "own"
    assert own((5,), numbers(), "mlp", name="other", units=4).name == "other"


# ------------------------------------------------------------------ the table of the docs
def table():
    """A row per word: the builders that take it, and its meaning."""
    lines = ["| argument | builders | meaning |", "|---|---|---|"]
    for word, meaning in VOCABULARY.items():
        users = [f"`{name}`" for name in PARAMETERS if word in PARAMETERS[name]]
        missing = [f"`{name}`" for name in PARAMETERS if word not in PARAMETERS[name]]
        if len(missing) <= 1:
            users = ["all", *(["but", *missing] if missing else [])]
            lines.append(f"| `{word}` | {' '.join(users)} | {meaning} |")
        else:
            lines.append(f"| `{word}` | {', '.join(users)} | {meaning} |")
    return "\n".join(lines)


def test_the_table_of_the_docs_is_the_vocabulary(request):
    before, rest = DOCS.read_text().split("<!-- vocabulary -->\n")
    written, after = rest.split("\n<!-- end of vocabulary -->")
    if request.config.getoption("--write-tables"):
        DOCS.write_text(
            f"{before}<!-- vocabulary -->\n{table()}\n<!-- end of vocabulary -->{after}"
        )
    else:
        assert written == table()
