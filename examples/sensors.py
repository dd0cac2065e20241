# %% [markdown]
# # Sensors: what does the wearer do, and how fast?
#
# Raw data: arrays of three accelerometer axes, 50 values a second, two seconds per row. The speed
# was measured for a part of the rows only.
#
# The signals are simulated, so that the example needs no download: sines of the step frequency
# with harmonics, turned by the way the phone is carried, and noise. They are no recording.
#
# `pip install "mtl_keras[data]"`, then `python examples/sensors.py`.

# %%
from pathlib import Path

import keras
import numpy as np

import mtl_keras as mtl

keras.utils.set_random_seed(0)
out = Path("sensors_run")
out.mkdir(exist_ok=True)

# %% [markdown]
# ## The raw arrays

# %%
rng = np.random.default_rng(0)
persons, rows = np.repeat(np.arange(60), 20), 1200
activity = rng.integers(0, 3, rows)  # standing, walking, running
speed = np.array([0.0, 1.4, 3.0])[activity] * rng.normal(1, 0.15, rows)
frequency = 0.9 + 0.7 * speed  # steps per second grow with speed
time = np.arange(100) / 50
phase = rng.uniform(0, 2 * np.pi, (rows, 1))
steps = speed[:, None] * np.sin(2 * np.pi * frequency[:, None] * time + phase)
steps += 0.3 * speed[:, None] * np.sin(4 * np.pi * frequency[:, None] * time + phase)
directions = rng.normal(size=(60, 3))[persons]
directions /= np.linalg.norm(directions, axis=1, keepdims=True)
signals = (9.8 + steps)[..., None] * directions[:, None] + rng.normal(0, 0.6, (rows, 100, 3))
measured = np.where(rng.random(rows) < 0.6, speed, np.nan)

# %% [markdown]
# ## Data: no person is in two parts

# %%
tasks = [
    mtl.tasks.Classification("activity", num_classes=3, labels=["standing", "walking", "running"]),
    mtl.tasks.Regression("speed", scale="fit", unit="m/s"),
]
data = mtl.data.from_arrays(
    {"acceleration": signals.astype("float32")},
    {"activity": activity, "speed": measured},
    tasks,
    group=persons,
)
print(data.describe())
train, validation, test = data.split(0.7, 0.15, 0.15, seed=0, by="group")


# %% [markdown]
# ## The network: an ordinary Keras trunk
#
# Any function of the input that returns a model is a backbone.


# %%
def trunk(inputs):
    x = keras.layers.Normalization(mean=0.0, variance=36.0)(inputs)
    for filters in (16, 32):
        x = keras.layers.Conv1D(filters, 7, strides=2, activation="relu", padding="same")(x)
    return keras.Model(inputs, x)


def build(tasks):
    return mtl.builders.hard_sharing(data.inputs, tasks, backbone=trunk)


results = mtl.runs.train(
    build,
    train,
    validation,
    test,
    out / "run",
    epochs=12,
    learning_rate=3e-3,
    augment=["jitter"],
    baselines=True,
    quantization="int8",
    overwrite=True,
    verbose=False,
)
print((out / "run" / "report.md").read_text(encoding="utf-8"))

# %% [markdown]
# ## To the phone

# %%
mtl.export.snippets(out / "run" / "model_int8.tflite", ["kotlin", "swift"], out / "run")
on_device = mtl.runtime.TFLiteModel(out / "run" / "model_int8.tflite")
print(on_device.predict({"acceleration": test.arrays()[0]["acceleration"][:2]}))
