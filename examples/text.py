# %% [markdown]
# # Texts with two labels: which library is it from, how many arguments does it take?
#
# Raw file: a CSV table with a column of texts, and labels of which some are missing.
#
# `pip install "mtl_keras[data]"`, then `python examples/text.py`.

# %%
import csv
import inspect
from pathlib import Path

import keras
import matplotlib.axes
import numpy as np
import pandas as pd

import mtl_keras as mtl

keras.utils.set_random_seed(0)
out = Path("text_run")
out.mkdir(exist_ok=True)

# %% [markdown]
# ## The raw file
#
# Real texts that every machine with this package has: the first sentences of the documentation of
# NumPy, pandas and matplotlib (BSD and matplotlib licenses).

# %%
owners = {
    "numpy": [np, np.linalg, np.random, np.ndarray],
    "pandas": [pd, pd.DataFrame, pd.Series, pd.Index],
    "matplotlib": [matplotlib.axes.Axes, matplotlib.figure.Figure, matplotlib.collections],
}
with open(out / "docs.csv", "w", newline="", encoding="utf-8") as file:
    table = csv.writer(file)
    table.writerow(["text", "library", "arguments"])
    for library, objects in owners.items():
        seen = set()
        for name, member in (pair for owner in objects for pair in inspect.getmembers(owner)):
            text = " ".join((inspect.getdoc(member) or "").split("\n\n")[0].split())
            if not callable(member) or name.startswith("_") or len(text) < 20 or text in seen:
                continue
            seen.add(text)
            try:
                arguments = len(inspect.signature(member).parameters)
            except (TypeError, ValueError):
                arguments = ""  # functions of compiled modules do not say
            table.writerow([text, library, arguments])

# %% [markdown]
# ## Data
#
# The tokenizer is fitted on the training part. The kind of each task is guessed from its column.

# %%
data = mtl.data.from_csv(
    out / "docs.csv", {"library": "library", "arguments": "arguments"}, text="text"
)
print(data.describe())
train, validation, test = data.split(0.7, 0.15, 0.15, seed=0)
print(data.encoder)

# %% [markdown]
# ## Training, with the best epoch kept and the single-task networks beside it
#
# `mtl.runs.train` does what `mtl-keras train docs.csv ...` does.


# %%
def build(tasks):
    return mtl.builders.hard_sharing(data.inputs, tasks, backbone="text_cnn")


results = mtl.runs.train(
    build,
    train,
    validation,
    test,
    out / "run",
    epochs=15,
    patience=4,
    learning_rate=3e-3,
    balancer="uncertainty",
    baselines=True,
    quantization="dynamic",
    overwrite=True,
    verbose=False,
)
print((out / "run" / "report.md").read_text(encoding="utf-8"))

# %% [markdown]
# ## To the phone

# %%
mtl.export.snippets(out / "run" / "model.tflite", ["kotlin", "python"], out / "run")
on_device = mtl.runtime.TFLiteModel(out / "run" / "model.tflite")
texts = ["Return the sum of array elements over a given axis.", "Set the label of the axis."]
print(on_device.predict(on_device.encoder.encode(texts)))
