"""Fetching, with package clients replaced by what they would leave behind."""

import hashlib

import numpy as np
import pytest

from mtl_keras.data import flights, gloss, sources
from mtl_keras.data.sources import DataError, Source


@pytest.fixture
def toy(monkeypatch, tmp_path):
    content = b"data"
    calls = []

    def download(target):
        calls.append(target)
        (target / "a.txt").write_bytes(toy.content)

    def toy():
        return calls

    toy.content = content
    source = Source(
        "toy", "CC0", "a toy", {"a.txt": hashlib.sha256(content).hexdigest()}, "toy", download
    )
    monkeypatch.setattr(sources, "_SOURCES", {"toy": source})
    monkeypatch.setenv("MTL_KERAS_HOME", str(tmp_path / "home"))
    return toy


def test_data_are_downloaded_once_and_kept(toy, tmp_path):
    folder = sources.fetch("toy")
    assert (folder / "a.txt").read_bytes() == b"data" and str(folder).startswith(str(tmp_path))
    assert sources.fetch("toy") == folder and len(toy()) == 1 and sources.is_cached("toy")


def test_a_folder_of_the_users_serves_without_download(toy, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"data")
    assert sources.fetch("toy", tmp_path) == tmp_path and not toy()
    kept = sources.fetch("toy", tmp_path, keep=True)
    assert kept != tmp_path and sources.fetch("toy", download=False) == kept


def test_damaged_data_are_refused_and_not_kept(toy):
    toy.content = b"damaged"
    with pytest.raises(DataError, match=r"SHA-256 .*expected"):
        sources.fetch("toy")
    assert not sources.is_cached("toy")
    assert not any(p.name.startswith(".toy") for p in (sources.cache_dir() / "data").iterdir())


def test_a_cache_that_was_damaged_later_is_refused(toy):
    folder = sources.fetch("toy")
    (folder / "a.txt").write_bytes(b"dat")
    with pytest.raises(DataError, match="damaged or another version"):
        sources.fetch("toy")


def test_a_folder_without_the_files_is_refused(toy, tmp_path):
    with pytest.raises(DataError, match=r"needs the file a.txt"):
        sources.fetch("toy", tmp_path)


def test_what_is_not_there_says_how_to_get_it(toy):
    with pytest.raises(DataError, match="mtl-keras data fetch toy"):
        sources.fetch("toy", download=False)


def test_unknown_names_list_the_close_ones(toy):
    with pytest.raises(ValueError, match="Did you mean 'toy'"):
        sources.fetch("toys")


def test_a_client_that_fails_speaks_for_itself(tmp_path):
    with pytest.raises(DataError, match=r"(?s)Package x could not be downloaded:.*no such package"):
        sources._run(["sh", "-c", "echo no such package >&2; exit 1"], tmp_path, "Package x")
    with pytest.raises(DataError, match="does not have"):
        sources._run(["no-such-client-anywhere"], tmp_path, "Package x")


def test_definitions_are_read_without_their_examples(tmp_path, monkeypatch):
    noun = '00001740 03 n 02 entity 0 thing 0 000 | that which exists; "what an entity!"  \n'
    for file, text in {
        "data.noun": "  1 licence\n" + noun * 20,
        "data.verb": "",
        "data.adj": "",
        "data.adv": "",
    }.items():
        (tmp_path / file).write_text(text)
    monkeypatch.setattr(sources, "_check", lambda *_: None)
    texts, labels = gloss.gloss(tmp_path)["train"]
    assert set(texts) == {"that which exists"} and len(texts) == 16
    assert (
        set(labels["synonyms"]) == {2}
        and set(labels["supersense"]) == {3}
        and set(labels["part_of_speech"]) == {0}
    )
    assert gloss.SUPERSENSES[3] == "noun.Tops" and len(gloss.SUPERSENSES) == 45


def test_flights_are_joined_split_by_day_and_lack_labels_where_cancelled(tmp_path, monkeypatch):
    import pandas as pd

    rows = []
    for day in pd.date_range("2013-01-01", "2013-12-31"):
        for number, delay in ((1, 20.0), (2, None)):
            fixed = {
                "year": 2013,
                "hour": 5,
                "minute": 15,
                "carrier": "UA",
                "origin": "JFK",
                "dest": "LAX",
                "distance": 2475,
            }
            known = (
                {"dep_time": 500, "dep_delay": delay, "arr_delay": delay, "tailnum": "N1"}
                if delay
                else {}
            )
            rows.append({**fixed, "month": day.month, "day": day.day, "flight": number, **known})
    pd.DataFrame(rows).to_csv(tmp_path / "flights.csv.zip", index=False, compression="zip")
    weather = {
        "origin": ["JFK"],
        "year": [2013],
        "month": [1],
        "day": [1],
        "hour": [5],
        "temp": [30.0],
        "wind_dir": [90.0],
    }
    weather |= {
        name: [0.0]
        for name in ("dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib")
    }
    pd.DataFrame({**weather, "time_hour": ["x"]}).to_csv(tmp_path / "weather.csv", index=False)
    planes = {
        "tailnum": ["N1"],
        "year": [1999],
        "seats": [180],
        "engine": ["Turbo-fan"],
        "manufacturer": ["AIRBUS"],
    }
    pd.DataFrame(planes).to_csv(tmp_path / "planes.csv", index=False)
    monkeypatch.setattr(sources, "_check", lambda *_: None)
    parts = flights.flights(tmp_path)
    days = {part: set(columns["day_of_year"]) for part, (columns, _) in parts.items()}
    assert len(days["train"]) == 255 and len(days["test"]) == 73
    assert not days["train"] & days["test"] and not days["train"] & days["validation"]
    columns, labels = parts["test"]
    assert labels["cancelled"].tolist() == [0, 1] * 73
    assert labels["late"].tolist() == [1, -1] * 73
    assert labels["arrival_delay"][0] == 20
    assert set(columns["plane_year"][::2]) == {1999} and set(columns["engine"][::2]) == {
        "Turbo-fan"
    }
    assert set(columns["departures"]) == {2}


def test_raw_rows_of_flights_become_the_columns_that_pandas_makes():
    import pandas as pd

    dates = pd.to_datetime(["2013-01-01", "2013-07-04", "2013-12-31", "2024-02-29", "2024-12-31"])
    wind = np.array([0.0, 90.0, 350.0, np.nan, 180.0])
    raw = {
        "year": dates.year,
        "month": dates.month,
        "day": dates.day,
        "hour": [0, 17, 23, 5, 12],
        "minute": [5, 30, 59, 0, 0],
    }
    table = flights.columns(
        {**raw, "wind_dir": wind, "carrier": ["UA"] * 5, "temp": ["39.2", "NA", "", None, 1]}
    )
    assert sorted(table) == sorted([*flights.NUMERIC, *flights.CATEGORICAL])
    np.testing.assert_array_equal(table["day_of_year"], dates.dayofyear)
    np.testing.assert_array_equal(table["weekday"], dates.weekday)
    angle = (np.array(raw["hour"]) + np.array(raw["minute"]) / 60) / 24 * 2 * np.pi
    np.testing.assert_allclose(
        np.arctan2(table["hour_sin"], table["hour_cos"]) % (2 * np.pi), angle, atol=1e-12
    )
    np.testing.assert_allclose(table["wind_cos"], np.cos(wind / 180 * np.pi), atol=1e-12)
    np.testing.assert_array_equal(table["temp"], [39.2, np.nan, np.nan, np.nan, 1])
    assert np.isnan(table["departures"]).all() and table["dest"] == [None] * 5


def test_columns_that_are_there_already_stay_and_what_lacks_is_named():
    made = {name: [0.5] for name in flights.NUMERIC} | {name: ["x"] for name in flights.CATEGORICAL}
    table = flights.columns(made)
    assert all(list(table[name]) == list(made[name]) for name in made)
    with pytest.raises(ValueError, match="lacks the columns day, minute of"):
        flights.columns({"year": [2013], "month": [1], "hour": [5]})
    with pytest.raises(ValueError, match="should be a date"):
        flights.columns({"year": [2013], "month": [2], "day": [30], "hour": [5], "minute": [0]})
    with pytest.raises(ValueError, match="'hour' should hold numbers"):
        flights.columns({"year": [2013], "month": [2], "day": [3], "hour": ["five"], "minute": [0]})
