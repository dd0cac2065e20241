"""Folders of files as data sets: pictures, sounds and texts, with labels beside them."""

from mtl_keras.data.folders.from_folder import from_folder

__all__ = ["from_folder"]
