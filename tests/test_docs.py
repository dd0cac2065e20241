"""The documentation's examples run."""

import re
from pathlib import Path

import numpy as np
import pytest

DOCS = Path(__file__).parents[1] / "docs"


def _examples(name):
    return re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(), flags=re.S)


def test_a_shared_lstm_learns_sentiment_and_topic_from_two_data_sets():
    found = {}
    exec(_examples("first_networks.md")[0], found)
    model, encode = found["model"], found["tokenizer"].encode
    decoded = model.decode(model.predict(encode([*found["reviews"], *found["headlines"]]), verbose=0))
    said = [item["label"] for item in decoded["sentiment"][: len(found["reviews"])]]
    assert np.mean(np.array(said) == np.array(list(found["reviews"].values()), bool)) >= 0.9
    topics = [item["label"] for item in decoded["topic"][len(found["reviews"]) :]]
    assert np.mean([a == b for a, b in zip(topics, found["headlines"].values(), strict=True)]) >= 0.9


def test_a_shared_trunk_learns_class_and_box_with_weighted_losses():
    found = {}
    exec(_examples("first_networks.md")[1], found)
    model, logs = found["model"], found["history"].history
    assert {name: float(w.numpy()) for name, w in model.loss_weights.items()} == pytest.approx({"item": 0.7, "box": 0.3})
    assert logs["loss"][0] == pytest.approx(0.7 * logs["item_loss"][0] + 0.3 * logs["box_loss"][0], rel=1e-4)
    x, y = found["images"], found["labels"]
    scores = model.evaluate(x, y, verbose=0)
    assert scores["item_accuracy"] > 0.3 and scores["box_iou"] > 0.4


@pytest.mark.parametrize("name", ["sharing.md"])
def test_shorter_examples_run(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    examples = _examples(name)
    assert examples
    for code in examples:
        exec(code, {})
