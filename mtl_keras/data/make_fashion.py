"""Makes the bundled subset of Fashion-MNIST from the full set:
`python -m mtl_keras.data.make_fashion FOLDER`.

FOLDER holds the four original files (`train-images-idx3-ubyte.gz`, ...), for example
`usr/share/datasets/fashion-mnist` of Debian's package `dataset-fashion-mnist` (`apt-get download`
and `dpkg-deb -x` get it without root). The subset is the first 12,000 training and the first 2,000
test images, unchanged; the result is the same bytes on every run.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np

from mtl_keras.data.scenes import BUNDLED
from mtl_keras.data.sources import sha256

__all__ = ["main", "read_idx"]

TRAIN, TEST = 12_000, 2_000


def read_idx(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (rows, 28, 28) and labels (rows,) of "train" or "t10k"."""
    images = gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    return np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28), np.frombuffer(
        labels, np.uint8, offset=8
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=BUNDLED)
    options = parser.parse_args()
    images, labels = read_idx(options.folder, "train")
    test_images, test_labels = read_idx(options.folder, "t10k")
    np.savez_compressed(
        options.out,
        train_images=images[:TRAIN],
        train_labels=labels[:TRAIN],
        test_images=test_images[:TEST],
        test_labels=test_labels[:TEST],
    )
    print(
        f"{options.out}: {options.out.stat().st_size / 1e6:.2f} MB, SHA-256 {sha256(options.out)}"
    )


if __name__ == "__main__":
    main()
