# %% [markdown]
# # Several data sets, each with labels of other tasks
#
# Raw files: two CSV tables of the same measurements. One hospital labelled the diagnosis, another
# measured an area. One network learns both: what a table lacks is a missing label.
#
# `pip install "mtl_keras[data]"`, then `python examples/several_data_sets.py`.

# %%
from pathlib import Path

import keras
import pandas as pd
from sklearn.datasets import load_breast_cancer

import mtl_keras as mtl

keras.utils.set_random_seed(0)
out = Path("several_run")
out.mkdir(exist_ok=True)

# %% [markdown]
# ## The raw files
#
# Real measurements of cell nuclei that come with scikit-learn (Wolberg et al., Breast Cancer
# Wisconsin, UCI, CC BY 4.0). They are cut into the tables of two hospitals.

# %%
table = load_breast_cancer(as_frame=True).frame
inputs = [name for name in table.columns if name.startswith("mean ")]
table["diagnosis"] = table["target"].map({0: "malignant", 1: "benign"})
table["worst_area"] = table["worst area"]
shuffled = table.sample(frac=1, random_state=0)
shuffled[[*inputs, "diagnosis"]].iloc[:150].to_csv(out / "first.csv", index=False)
shuffled[[*inputs, "worst_area"]].iloc[150:400].to_csv(out / "second.csv", index=False)
shuffled[[*inputs, "diagnosis", "worst_area"]].iloc[400:].to_csv(out / "test.csv", index=False)

# %% [markdown]
# ## Data: one encoder for both
#
# All rows go into one data set, so that they are encoded alike; a column says where a row is from.

# %%
frames = {
    name: pd.read_csv(out / f"{name}.csv").assign(hospital=name)
    for name in ("first", "second", "test")
}
tasks = [
    mtl.tasks.Classification("diagnosis", num_classes=2, labels=["benign", "malignant"]),
    mtl.tasks.Regression("worst_area", scale="fit", unit="pixels"),
]
data = mtl.data.from_dataframe(
    pd.concat(frames.values(), ignore_index=True), tasks, inputs=inputs, leave_out=["hospital"]
)
print(data.describe())
ends = [150, 400, len(data)]
rows = [range(120), range(150, 350), [*range(120, 150), *range(350, 400)], range(400, ends[-1])]
train_rows = [*rows[0], *rows[1]]
train, validation, test = data.parts([train_rows, rows[2], rows[3]])
first, second = train[range(120)], train[range(120, 320)]

# %% [markdown]
# ## One stream of both
#
# Every batch holds rows of both tables, in the shares that `sampling` says.

# %%
print(mtl.data.sampling_rates({"first": 120, "second": 200}, sampling="temperature"))


def train_network(tasks, datasets):
    """A network for some tasks; the weights of the best epoch by validation are kept."""
    names = [task.name for task in tasks]
    model = mtl.builders.hard_sharing(data.inputs, tasks)
    model.compile(keras.optimizers.Adam(3e-3))
    stream = mtl.data.mix(
        datasets, data.tasks, sampling="temperature", within_batch=True, ends="longest"
    )
    best = keras.callbacks.EarlyStopping("val_loss", patience=8, restore_best_weights=True)

    def chosen(x, y):
        return x, {name: y[name] for name in names}

    history = model.fit(
        stream.map(chosen),
        validation_data=validation.batch(64).map(chosen),
        epochs=30,
        callbacks=[best],
        verbose=0,
    )
    scores = model.evaluate(test.batch(64).map(chosen), verbose=0)
    return model, history, scores


model, history, scores = train_network(data.tasks, {"first": first, "second": second})
mtl.plot.history(history, out / "curves.png")
mtl.plot.predictions(model, test, count=6, path=out / "predictions.png")
for task, dataset in zip(data.tasks, (first, second), strict=True):
    _, _, alone = train_network([task], {"own": dataset})
    for metric, value in alone.items():
        if metric != "loss":
            print(f"{metric}: {scores[metric]:.3f} together, {value:.3f} alone")

# %% [markdown]
# ## To the phone

# %%
model.save(out / "model.keras")
mtl.export.tflite(model, out / "model.tflite", calibration=test.arrays()[0]).show()
mtl.export.snippets(out / "model.tflite", ["kotlin"], out)
on_device = mtl.runtime.TFLiteModel(out / "model.tflite")
print(on_device.predict(on_device.encoder.encode(frames["test"][inputs].head(2).to_dict("list"))))
