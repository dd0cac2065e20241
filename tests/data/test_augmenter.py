"""Augmenters: reproducible draws, refusals by name, configs, and data sets."""

import json

import numpy as np
import pytest
import tensorflow as tf

import mtl_keras as mtl
from mtl_keras.data import augment

T = mtl.tasks
TASKS = [T.Classification("kind", 3), T.BoundingBox("box")]
STEPS = ["flip", "crop", "color"]


def rows(count=12, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.random((count, 16, 16, 3)).astype("float32")
    box = np.tile(np.float32([0.2, 0.3, 0.6, 0.8]), (count, 1))
    return x, {"kind": rng.integers(0, 3, count), "box": box}


def dataset():
    x, y = rows()
    return tf.data.Dataset.from_tensor_slices((x, {"kind": y["kind"]})).batch(4)


def pictures_of(data):
    return np.concatenate([batch[0].numpy() for batch in data])


# ------------------------------------------------------------------ draws
def test_draws_are_the_seeds_and_the_batchs_and_nothing_else():
    x, y = rows()
    first = augment.Augmenter(STEPS, TASKS, seed=1)(x, y, index=5)
    tf.random.set_seed(99)
    again = augment.Augmenter(STEPS, TASKS, seed=1)(x, y, index=tf.constant(5))
    for a, b in zip(tf.nest.flatten(first), tf.nest.flatten(again), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    for seed, index in ((2, 5), (1, 6)):
        other = augment.Augmenter(STEPS, TASKS, seed=seed)(x, y, index=index)
        assert np.abs(other[0] - first[0]).max() > 0.1
    same = augment.Augmenter(STEPS, TASKS)(np.repeat(x[:1], 12, axis=0), y)[0].numpy()
    assert len(np.unique(same.reshape(12, -1).round(4), axis=0)) > 10, "rows draw by themselves"


def test_a_data_set_is_the_same_on_every_run_and_different_every_epoch():
    data = augment.apply(dataset(), ["color"], TASKS[:1], seed=3)
    assert int(data.cardinality()) == 3
    epochs = [pictures_of(data), pictures_of(data)]
    assert np.abs(epochs[0] - epochs[1]).max() > 0.1
    assert len(epochs[0]) == 12
    tf.random.set_seed(1)
    again = augment.apply(dataset(), ["color"], TASKS[:1], seed=3)
    for epoch in epochs:
        np.testing.assert_allclose(pictures_of(again), epoch, atol=1e-6)
    endless = augment.apply(dataset().repeat(), ["color"], TASKS[:1])
    assert int(endless.cardinality()) == tf.data.INFINITE_CARDINALITY
    parts = pictures_of(endless.take(6)).reshape(2, 12, -1)
    assert np.abs(parts[0] - parts[1]).max() > 0.1


def test_task_data_sets_augment_their_batches():
    x, y = rows()
    data = mtl.data.from_arrays({"photo": x}, y, TASKS)
    batches = data.batch(4, augment=["flip"], shuffle=False)
    pairs = list(batches)
    new = np.concatenate([x["photo"].numpy() for x, _ in pairs])
    assert new.shape == x.shape and int(batches.cardinality()) == 3
    flipped = [np.allclose(a, b[:, ::-1]) for a, b in zip(new, x, strict=True)]
    same = [np.allclose(a, b) for a, b in zip(new, x, strict=True)]
    assert all(a != b for a, b in zip(flipped, same, strict=True)) and 0 < sum(flipped) < 12
    boxes = np.concatenate([y["box"].numpy() for _, y in pairs])
    np.testing.assert_allclose(boxes[:, 0], np.where(flipped, 0.4, 0.2), atol=1e-6)


def test_weights_pass_through():
    x, y = rows()
    weights = {"kind": np.arange(12.0), "box": np.ones(12)}
    _, _, new = augment.Augmenter(STEPS, TASKS)(x, y, weights)
    np.testing.assert_array_equal(new["kind"], weights["kind"])
    _, _, vector = augment.Augmenter(STEPS, TASKS)(x, y, weights["kind"])
    np.testing.assert_array_equal(vector, weights["kind"])
    with pytest.raises(ValueError, match=r"(?s)Weights per pixel.*'box'.*-1 or NaN"):
        augment.Augmenter(STEPS, TASKS)(x, y, {"box": np.ones((12, 16, 16))})


# ------------------------------------------------------------------ several inputs
def test_one_of_several_inputs_is_changed():
    x, y = rows()
    inputs = {"photo": x, "title": np.ones((12, 5), "int32")}
    new, _ = augment.Augmenter(STEPS, TASKS, input_name="photo")(inputs, y)
    np.testing.assert_array_equal(new["title"], inputs["title"])
    assert np.abs(new["photo"] - x).max() > 0.1
    with pytest.raises(ValueError, match="input_name='photo'"):
        augment.Augmenter(STEPS, TASKS)(inputs, y)
    with pytest.raises(ValueError, match="photo"):
        augment.Augmenter(STEPS, TASKS, input_name="foto")(inputs, y)
    kind = {"kind": y["kind"]}
    with pytest.raises(ValueError, match="'mixup' mixes rows, and input 'title' would stay"):
        augment.Augmenter(["mixup"], TASKS[:1], input_name="photo")(inputs, kind)
    with pytest.raises(ValueError, match="'flip' .* input 'depth' would stay"):
        augment.Augmenter(["flip"], TASKS, input_name="photo")({"photo": x, "depth": x}, y)


def test_task_data_sets_of_several_kinds_name_their_inputs():
    x, y = rows()
    y = {"kind": y["kind"]}
    inputs = {"photo": x, "title": np.full((12, 5), 9, "int32"), "motion": x[:, 0]}
    data = mtl.data.from_arrays(inputs, y, TASKS[:1])
    steps = {"photo": ["flip", "color"], "title": [augment.WordDropout(0.5)], "motion": ["jitter"]}
    new = next(iter(data.batch(12, augment=steps, shuffle=False)))[0]
    for name, before in inputs.items():
        assert (new[name].numpy() != before).any(), name
    only = augment.Augmenter.for_data(data, ["flip"])
    assert (only.kind, only.input_name) == ("image", "photo")
    assert augment.Augmenter.for_data(data, only) is only
    with pytest.raises(ValueError, match="foto"):
        data.batch(12, augment={"foto": ["flip"]})
    two = mtl.data.from_arrays({"left": x, "right": x}, y, TASKS[:1])
    with pytest.raises(ValueError, match="say which ones"):
        two.batch(12, augment=["flip"])


def test_tables_with_texts_know_which_block_a_step_is_for():
    rng = np.random.default_rng(0)
    words = np.array(["good", "bad", "red", "blue", "old", "new", "here", "there"])
    table = {"area": rng.random(40), "title": [" ".join(rng.choice(words, 4)) for _ in range(40)]}
    data = mtl.data.from_dataframe(
        {**table, "sold": np.arange(40) % 2}, [T.Binary("sold")], text=["title"]
    )
    for steps, name in ((["swap_noise"], "numeric"), (["word_dropout"], "title_tokens")):
        assert augment.Augmenter.for_data(data, steps).input_name == name
    noise = augment.Augmenter.for_data(data, ["column_noise"]).steps[0]
    np.testing.assert_allclose(noise.spread[0], table["area"].std(), rtol=1e-6)
    with pytest.raises(ValueError, match=r"'numeric' \(table\), 'title_tokens' \(text\)"):
        augment.Augmenter.for_data(data, ["flip"])


# ------------------------------------------------------------------ refusals
@pytest.mark.parametrize(
    ("kind", "steps", "message"),
    [
        ("image", ["flop"], "flip"),
        ("image", ["word_dropout"], "'text'.*'image'"),
        ("text", ["flip"], "'image'.*'text'.*word_dropout"),
        ("image", [augment.Jitter()], "'array'.*'image'"),
        ("picture", ["flip"], "image"),
    ],
)
def test_steps_for_other_kinds_of_input_are_refused_by_name(kind, steps, message):
    with pytest.raises(ValueError, match=message):
        augment.Augmenter(steps, TASKS, kind=kind)


def test_what_is_no_list_of_steps_is_refused():
    for steps in ("flip", augment.Flip(), None):
        with pytest.raises(TypeError, match="in a list"):
            augment.Augmenter(steps, TASKS)
    data = mtl.data.from_arrays(*rows(), TASKS)
    for steps in ("flip", {"x": "flip"}):
        with pytest.raises(TypeError, match="in a list"):
            augment.Augmenter.for_data(data, steps)
    with pytest.raises(TypeError, match=r"write Flip\(\)"):
        augment.Augmenter([augment.Flip], TASKS)
    with pytest.raises(TypeError, match="name or an object"):
        augment.Augmenter([3], TASKS)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: augment.Flip(1.5), "probability"),
        (lambda: augment.Flip(horizontal=False), "horizontal"),
        (lambda: augment.Crop((0.9, 0.5)), "area"),
        (lambda: augment.Crop(0.5), "area"),
        (lambda: augment.Rotate(200), "degrees"),
        (lambda: augment.Scale((0, 1)), "factor"),
        (lambda: augment.Color(hue=-1), "hue"),
        (lambda: augment.MixUp(float("nan")), "alpha"),
        (lambda: augment.WordDropout(unknown=0), "unknown"),
        (lambda: augment.Noise((30, 10)), "decibels"),
    ],
)
def test_strengths_out_of_range_are_refused_by_name(make, argument):
    with pytest.raises(ValueError, match=f"`{argument}`.*{argument}="):
        make()


ONE_OF_EACH = {
    "Classification": T.Classification("t", 3),
    "Ordinal": T.Ordinal("t", 3),
    "Binary": T.Binary("t"),
    "MultiLabel": T.MultiLabel("t", 2),
    "Regression": T.Regression("t"),
    "Embedding": T.Embedding("t"),
    "BoundingBox": T.BoundingBox("t"),
    "Detection": T.Detection("t"),
    "Keypoints": T.Keypoints("t", 2, swaps=[]),
    "Segmentation": T.Segmentation("t"),
    "Depth": T.Depth("t"),
    "Normals": T.Normals("t"),
    "TokenTagging": T.TokenTagging("t", 2),
    "SequenceTranscription": T.SequenceTranscription("t", "ab"),
}


def test_every_kind_of_task_is_decided_about():
    classes = {name for name in T.__all__ if isinstance(getattr(T, name), type)}
    assert set(ONE_OF_EACH) == classes - {"Task", "TaskMetric", "TaskOutput"}


def test_tasks_that_cannot_follow_are_refused_by_name_all_at_once():
    tasks = [T.Embedding("face"), T.Keypoints("eyes", 2), T.Classification("kind", 2)]
    with pytest.raises(ValueError) as error:
        augment.Augmenter(["mixup", "flip"], tasks)
    lines = str(error.value).splitlines()
    assert len(lines) == 3
    assert "'mixup'" in lines[0] and "'face' (Embedding)" in lines[0]
    assert "'mixup'" in lines[1] and "'eyes' (Keypoints)" in lines[1]
    assert "'flip'" in lines[2] and "swaps=[(left, right)" in lines[2]


def test_a_task_of_a_users_own_follows_where_its_base_does():
    class Age(T.Regression):
        kind = "age"

    class Other(T.Task):
        kind = "other"

    augment.Augmenter(["flip", "mixup"], [Age("age")])
    augment.Augmenter(["color"], [Other("other")])
    with pytest.raises(ValueError, match=r"'other' \(Other\).*not known"):
        augment.Augmenter(["flip"], [Other("other")])


def test_labels_of_other_tasks_are_refused():
    x, y = rows()
    with pytest.raises(ValueError, match="lack task 'box'"):
        augment.Augmenter(STEPS, TASKS)(x, {"kind": y["kind"]})
    with pytest.raises(ValueError, match="boxx"):
        augment.Augmenter(STEPS, TASKS[:1])(x, {"kind": y["kind"], "boxx": y["box"]})
    with pytest.raises(ValueError, match="dict of task name"):
        augment.Augmenter(STEPS, TASKS[:1])(x, y["kind"])
    with pytest.raises(ValueError, match="shape"):
        augment.apply(tf.data.Dataset.from_tensor_slices(rows()), STEPS, TASKS)
    with pytest.raises(ValueError, match="should give"):
        augment.apply(tf.data.Dataset.from_tensor_slices(rows()[0]).batch(2), STEPS, TASKS)


# ------------------------------------------------------------------ left and right
def test_pairs_of_points_are_read_off_their_names_or_given():
    names = ["left_eye", "nose", "right_eye"]
    assert T.Keypoints("a", 3, labels=names).mirrored_order == [2, 1, 0]
    assert T.Keypoints("a", 3, labels=names, swaps=[]).mirrored_order == [0, 1, 2]
    assert T.Keypoints("a", 3, labels=names, swaps=[("nose", 0)]).mirrored_order == [1, 0, 2]
    assert T.Keypoints("a", 3).mirrored_order is None
    assert T.Keypoints("a", 1).mirrored_order == [0]
    task = T.Keypoints("a", 3, swaps=[(0, 2)])
    assert T.Keypoints.from_config(json.loads(json.dumps(task.get_config()))).swaps == [[0, 2]]
    for swaps in ([(0, 3)], [(0, 1), (1, 2)], [(0, 0)], [(0,)], [("ear", 0)]):
        with pytest.raises(ValueError, match="'a'"):
            T.Keypoints("a", 3, labels=names, swaps=swaps)


# ------------------------------------------------------------------ config
def test_every_step_is_its_config():
    for kind in augment.step.KINDS:
        for name in augment.list_steps(kind):
            step = augment.step.get_step(name, kind)
            config = json.loads(json.dumps({"name": name, **step.get_config()}))
            again = augment.step.get_step(config, kind)
            assert repr(again) == repr(step) and type(again).__name__ in repr(step)


def test_an_augmenter_is_its_config():
    steps = ["flip", augment.Crop((0.6, 0.9)), augment.Color(hue=0)]
    augmenter = augment.Augmenter(steps, TASKS, seed=4, value_range=(0, 1), min_visible=0.1)
    config = json.loads(json.dumps(augmenter.get_config()))
    again = augment.Augmenter.from_config(config, TASKS)
    assert repr(again) == repr(augmenter) and "Crop(area=(0.6, 0.9)" in repr(again)
    x, y = rows()
    np.testing.assert_array_equal(again(x, y)[0], augmenter(x, y)[0])


def test_a_step_of_a_users_own_has_a_name():
    @augment.register_step
    class Darken(augment.Step):
        name = "darken"

        def __init__(self, factor=0.5):
            super().__init__()
            self.factor = factor

        def change(self, batch, draws):
            return batch.with_input(batch.x * self.factor)

    x, y = rows()
    np.testing.assert_allclose(augment.Augmenter(["darken"], TASKS)(x, y)[0], x / 2)
    assert "darken" in augment.list_steps("image")

    class Another(augment.Step):
        name = "flip"

    with pytest.raises(ValueError, match="already"):
        augment.register_step(Another)
    del augment.step._STEPS[("image", "darken")]
