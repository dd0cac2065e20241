"""Labels in every form that `from_folder` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mtl_keras.data.annotations import Annotations, read_coco, read_voc
from mtl_keras.data.folders.annotation_labels import AnnotationLabels
from mtl_keras.data.folders.files import FileIndex
from mtl_keras.data.folders.labels import FolderLabels, Labels, as_cells
from mtl_keras.data.folders.pictures import upright_size
from mtl_keras.data.folders.table_labels import TableLabels
from mtl_keras.data.parquet import read_parquet
from mtl_keras.data.sources import DataError
from mtl_keras.runtime.cells import is_missing
from mtl_keras.runtime.table_files import TableError, read_csv

__all__ = ["open_labels"]


def open_labels(
    labels: Any,
    folder: Path,
    index: FileIndex,
    *,
    kind: str,
    file: str | None,
    box_format: str | None,
) -> Labels:
    """The labels that `from_folder` was given.

    Raises:
        DataError: labels of an unknown form, or a file that can't be read.
    """
    if labels is None:
        return FolderLabels(folder, index.files, kind)
    if isinstance(labels, Annotations):
        return AnnotationLabels(labels, index)
    if hasattr(labels, "columns") and hasattr(labels, "to_dict"):
        columns = {str(name): list(labels[name]) for name in labels.columns}
        return _table_labels(columns, "the table", index, file, box_format)
    path = find_label_path(labels, folder)
    suffix = path.suffix.lower()
    if path.is_dir() or suffix == ".xml":

        def find_size(name: str) -> tuple[int, int]:
            number = index.find(name)
            if number is None:
                raise DataError(f"{path} does not say the size of {name}, which {folder} lacks.")
            return upright_size(folder / index.files[number])

        return AnnotationLabels(read_voc(path, find_size=find_size), index)
    if suffix == ".json":
        return AnnotationLabels(read_coco(path), index)
    if suffix == ".parquet":
        columns = {name: column.to_pylist() for name, column in read_parquet(path).items()}
        return _table_labels(columns, path.name, index, file, box_format)
    if suffix not in (".csv", ".tsv", ".txt"):
        raise DataError(
            f"`labels` should be a CSV or Parquet file, a COCO file (.json), a folder of Pascal VOC files "
            f"(.xml), a DataFrame or Annotations. Received: {labels!r}."
        )
    try:
        content = read_csv(path)
    except TableError as error:
        raise DataError(str(error)) from None
    return TableLabels(
        content.columns,
        content.name,
        content.row_names,
        index,
        file,
        box_format,
        content.decimal,
    )


def find_label_path(labels: Any, folder: Path) -> Path:
    """The file or folder of labels: from where the program runs, else inside the folder."""
    path = Path(labels)
    for candidate in (path, folder / path):
        if candidate.exists():
            return candidate
    raise DataError(f"There are no labels {labels}, neither here nor in {folder}.")


def _table_labels(
    columns: dict[str, list[Any]],
    name: str,
    index: FileIndex,
    file: str | None,
    box_format: str | None,
) -> TableLabels:
    """The labels of a table in memory."""
    table = {
        column: as_cells([None if is_missing(cell) else cell for cell in cells])
        for column, cells in columns.items()
    }
    count = len(next(iter(table.values()), ()))
    if not count:
        raise DataError(f"{name} should have at least one row. Received: none.")
    lines = [f"{name}, row {number}" for number in range(count)]
    return TableLabels(table, name, lines, index, file, box_format)
