"""Labels of pictures in files of annotations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mtl_keras.data.annotations import Annotations
from mtl_keras.data.annotations.labels import (
    ASPECTS,
    annotation_field,
    default_aspect,
    guess_annotation_task,
)
from mtl_keras.data.fields import Field
from mtl_keras.data.folders.files import FileIndex
from mtl_keras.data.folders.labels import Column, Labels, folder_columns
from mtl_keras.data.sources import DataError
from mtl_keras.runtime.names import unknown_name

if TYPE_CHECKING:
    from mtl_keras.tasks import Task

__all__ = ["AnnotationLabels"]


class AnnotationLabels(Labels):
    """Annotations of pictures.

    Args:
        annotations: the annotations.
        index: the folder's files.
    """

    def __init__(self, annotations: Annotations, index: FileIndex) -> None:
        self.source, self.annotations = annotations.source, annotations
        numbers = {name: index.find(name) for name in annotations.pictures}
        self.lost = [name for name, number in numbers.items() if number is None]
        names = {number: name for name, number in numbers.items() if number is not None}
        self.files = sorted(names)
        self.names = [names[number] for number in self.files]
        self.problems = {
            row: f"{annotations.problems[name]}."
            for row, name in enumerate(self.names)
            if name in annotations.problems
        }
        self.remarks = list(annotations.remarks)
        self._folders = folder_columns([index.files[number] for number in self.files])

    def default_tasks(self) -> dict[Any, Column]:
        tasks = {"objects": "boxes"}
        if self.annotations.has_masks:
            tasks["mask"] = "masks"
        if self.annotations.points:
            tasks["points"] = "points"
        return tasks

    def column_of(self, task: Task) -> Column:
        return self._aspect(default_aspect(task), task.name)

    def _aspect(self, aspect: Column, task: str) -> str:
        known = [*ASPECTS, *self.annotations.categories]
        if aspect not in known:
            raise DataError(
                unknown_name(f"label of annotations for task '{task}':", str(aspect), known)
            )
        return str(aspect)

    def guess(self, name: str, column: Column) -> Task:
        return guess_annotation_task(name, self._aspect(column, name), self.annotations)

    def field(self, task: Task, column: Column, rows: np.ndarray) -> tuple[Task, Field]:
        raise NotImplementedError("Annotations need the size of maps: call `map_field`.")

    def sized_field(
        self, task: Task, column: Column, rows: np.ndarray, size: Sequence[int]
    ) -> tuple[Task, Field]:
        """As `field`, with the `(height, width)` of maps; row -1 has no label."""
        files = [None if row < 0 else self.names[row] for row in rows]
        aspect = self._aspect(column, task.name)
        return task, annotation_field(task, aspect, self.annotations, files, size)

    def check_sizes(self, sizes: Sequence[tuple[int, int] | None]) -> None:
        """Add pictures of another shape than the annotated ones to `problems`."""
        for row, (name, size) in enumerate(zip(self.names, sizes, strict=True)):
            if size is None:
                continue
            height, width = self.annotations.pictures[name].size
            # The same picture in another size has the same proportions.
            if abs(size[0] * width - size[1] * height) > 0.03 * size[1] * height:
                self.problems.setdefault(
                    row,
                    f"the annotations are those of a picture of {width} x {height} pixels, and "
                    f"the file, upright, has {size[1]} x {size[0]}.",
                )

    def column_names(self) -> list[str]:
        return list(self._folders)

    def column(self, name: str) -> Sequence[Any]:
        return self._folders[name]
