"""Flights from New York in 2013: what was known before departure, and what became of them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from mtl_keras.data.sources import DataError, fetch

__all__ = ["CATEGORICAL", "NUMERIC", "flights"]

#: Columns that are numbers; hour and wind as sine and cosine, so that midnight and north have no edge.
NUMERIC = [
    "day_of_year", "hour", "hour_sin", "hour_cos", "minute", "distance", "temp", "dewp", "humid", "wind_sin", "wind_cos",
    "wind_speed", "wind_gust", "precip", "pressure", "visib", "departures", "plane_year", "seats",
]  # fmt: skip
#: Columns that are categories.
CATEGORICAL = ["carrier", "origin", "dest", "month", "weekday", "engine", "manufacturer"]


def flights(folder: str | os.PathLike[str] | None = None, seed: int = 0) -> dict[str, tuple[dict, dict]]:
    """The table in three parts, split by day, so that the weather of a test day was never seen.

    Args:
        folder: where the package's files are; None takes the cache (`mtl-keras data fetch flights`).
        seed: int. Of the split.

    Returns:
        dict of "train" (70 % of the days), "validation" (10 %) and "test" (20 %) to `(columns, labels)`, both dicts of
        arrays. Labels: `cancelled` (0 or 1), `late` (departed more than 15 minutes late; -1 where cancelled) and
        `arrival_delay` (minutes; NaN where cancelled or diverted).

    Raises:
        DataError: the files are not there or damaged.

    Note:
        A cancelled flight often has no tail number on record (30 % of them; no other flight lacks one), so its plane is
        unknown: a part of what `cancelled` can be predicted from is how the record was kept.
    """
    try:
        import pandas as pd
    except ImportError:
        raise DataError("Reading `flights` needs pandas: pip install 'mtl-keras[data]'.") from None
    place = fetch("flights", folder, download=False)
    table = pd.read_csv(place / "flights.csv.zip")
    weather = pd.read_csv(place / "weather.csv").drop(columns="time_hour")
    planes = pd.read_csv(place / "planes.csv").rename(columns={"year": "plane_year"})
    table = table.merge(weather, on=["origin", "year", "month", "day", "hour"], how="left")
    table = table.merge(planes, on="tailnum", how="left")
    date = pd.to_datetime(table[["year", "month", "day"]])
    table["day_of_year"] = date.dt.strftime("%j").astype(int)
    table["weekday"] = date.dt.strftime("%u").astype(int) - 1
    table["departures"] = table.groupby(["origin", "day_of_year", "hour"])["flight"].transform("count")
    clock = (table["hour"] + table["minute"] / 60) * (2 * np.pi / 24)
    wind = np.deg2rad(table["wind_dir"])
    table["hour_sin"], table["hour_cos"] = np.sin(clock), np.cos(clock)
    table["wind_sin"], table["wind_cos"] = np.sin(wind), np.cos(wind)

    cancelled = table["dep_time"].isna().to_numpy()
    labels = {
        "cancelled": cancelled.astype("int32"),
        "late": np.where(cancelled, -1, table["dep_delay"].to_numpy() > 15).astype("int32"),
        "arrival_delay": table["arr_delay"].to_numpy("float32"),
    }
    columns: dict[str, Any] = {name: table[name].to_numpy("float32") for name in NUMERIC}
    columns |= {name: table[name].astype(object).where(table[name].notna(), None).to_numpy() for name in CATEGORICAL}

    days = np.random.RandomState(seed).permutation(np.arange(1, 366))
    parts = {"test": days[:73], "validation": days[73:110], "train": days[110:]}
    found = {}
    for part, chosen in parts.items():
        rows = np.isin(table["day_of_year"].to_numpy(), chosen)
        found[part] = ({k: v[rows] for k, v in columns.items()}, {k: v[rows] for k, v in labels.items()})
    return found
