# %% [markdown]
# # A table with missing labels: from a CSV file to the snippet for the phone, in a minute
#
# The file is as people have it: semicolons, decimal commas, dates, several visits of one patient,
# and three labels of which each is missing in some rows. (The patients are invented.) The folder
# `patients_run/` holds what comes out; look at `report.md` first.
#
# `pip install "mtl_keras[data]"`, then `python examples/table.py`.

# %%
from pathlib import Path

import keras

import mtl_keras as mtl

# A notebook knows no `__file__`; it is run in its own folder.
CSV = Path(globals().get("__file__", "table.py")).parent / "data" / "patients.csv"
FOLDER = Path("patients_run")

# %% [markdown]
# ## What is predicted
#
# The unit and the scale of a number are the task's business.

# %%
tasks = {
    mtl.tasks.Binary("diabetes"): "diabetes",
    mtl.tasks.Regression("pressure", scale="fit", unit="mmHg"): "blood pressure",
    mtl.tasks.Ordinal("risk", 3, labels=["low", "medium", "high"]): "risk",
}
data = mtl.data.from_csv(CSV, tasks, group="patient", leave_out=["visit"])
print(data.describe())

# %% [markdown]
# ## Split: no patient is on two sides
#
# Encoders and scales come from the first part.

# %%
train, validation, test = data.split(0.7, 0.15, 0.15, by="group", seed=0)

# %% [markdown]
# ## One trunk, and a head per task
#
# Another way of sharing is another name in `mtl.builders`.


# %%
def build(tasks):
    options = {**data.inputs.backbone_options, "widths": (32, 16), "dropout": 0.2}
    return mtl.builders.hard_sharing(data.inputs, tasks, backbone_options=options)


# %% [markdown]
# ## Training
#
# The best epoch by validation is kept. A single-task network per task is trained for comparison.
# Curves and predictions are drawn, and checked files are written.

# %%
results = mtl.runs.train(
    build,
    train,
    validation,
    test,
    FOLDER,
    epochs=40,
    learning_rate=3e-3,
    baselines=True,
    quantization="int8",
    overwrite=True,
    verbose=False,
)
for name, scores in results["scores"].items():
    shown = ", ".join(f"{metric} {value:.3f}" for metric, value in scores.items())
    print(f"{name}: {shown}")
print(results["delta_m"].get("text") or results["delta_m"]["error"])

# %% [markdown]
# ## What each head looks at, and a row of which nothing but the columns is known

# %%
model = keras.saving.load_model(FOLDER / "model.keras")
mtl.plot.saliency(model, test, count=2, path=FOLDER / "pictures" / "saliency.png")
row = {"age": [61], "weight": [94.5], "height": [170], "smoker": ["yes"], "clinic": ["North"]}
print(model.decode(model.predict(model.encoder.encode(row), verbose=0)))

# %% [markdown]
# ## The call to paste into an app

# %%
snippets = mtl.export.snippets(FOLDER / "model_int8.tflite", ["kotlin"])
print(f"For the phone: {snippets['kotlin']}")
