"""From annotations to the labels of tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mtl_keras.data.annotations.annotations import AnnotatedPicture, Annotations
from mtl_keras.data.fields import ArrayField, Field, FunctionField
from mtl_keras.data.sources import DataError
from mtl_keras.runtime.names import unknown_name

if TYPE_CHECKING:
    from mtl_keras.tasks import Task

__all__ = ["ASPECTS", "annotation_field", "default_aspect", "guess_annotation_task"]

#: What annotations say of a picture, by the name that `tasks={task: ...}` uses.
ASPECTS = {
    "boxes": "each object's box and category",
    "box": "the box of the largest object",
    "masks": "a category per pixel",
    "silhouette": "whether a pixel belongs to any object",
    "points": "the points of the largest object that has points",
    "categories": "which categories the picture holds",
    "category": "the one category that the picture holds",
    "count": "the number of objects",
}
_BY_KIND = {
    "detection": "boxes",
    "bounding_box": "box",
    "keypoints": "points",
    "multi_label": "categories",
    "classification": "category",
    "regression": "count",
}


def default_aspect(task: Task) -> str:
    """What of annotations a task learns where nothing else is said: an aspect, or the category of
    the task's name for a `Binary` task.

    Raises:
        DataError: a task that annotations have no labels for.
    """
    if task.kind == "segmentation":
        return "silhouette" if task.num_classes == 1 else "masks"  # type: ignore[attr-defined]
    if task.kind == "binary":
        return task.name
    if task.kind not in _BY_KIND:
        raise DataError(
            f"Annotations hold no labels for task '{task.name}' ({type(task).__name__}). Give its "
            f"files with `masks`, or leave it out."
        )
    return _BY_KIND[task.kind]


def guess_annotation_task(name: str, aspect: str, annotations: Annotations) -> Task:
    """A task that learns an aspect of annotations, or, of a category's name, whether it is there.

    Raises:
        DataError: neither an aspect nor a category.
    """
    from mtl_keras import tasks as task_kinds

    categories = annotations.categories
    if aspect in ("masks", "category", "categories") and not categories:
        raise DataError(f"{annotations.source} lists no category for task '{name}'.")
    makers: dict[str, Callable[[], Task]] = {
        "boxes": lambda: task_kinds.Detection(name, len(categories), labels=categories),
        "box": lambda: task_kinds.BoundingBox(name),
        "masks": lambda: task_kinds.Segmentation(
            name, len(categories) + 1, labels=["background", *categories]
        ),
        "silhouette": lambda: task_kinds.Segmentation(name),
        "points": lambda: _keypoints(name, annotations),
        "categories": lambda: task_kinds.MultiLabel(name, len(categories), labels=categories),
        "category": lambda: task_kinds.Classification(name, len(categories), labels=categories),
        "count": lambda: task_kinds.Regression(name),
    }
    if aspect in makers:
        return makers[aspect]()
    if aspect in categories:
        return task_kinds.Binary(name)
    raise DataError(unknown_name("label of annotations:", aspect, [*ASPECTS, *categories]))


def _keypoints(name: str, annotations: Annotations) -> Task:
    from mtl_keras import tasks as task_kinds

    if not annotations.points:
        raise DataError(f"{annotations.source} names no points for task '{name}'.")
    labels = next(iter(annotations.points.values()))
    return task_kinds.Keypoints(name, len(labels), labels=labels)


def annotation_field(
    task: Task,
    aspect: str,
    annotations: Annotations,
    files: Sequence[str | None],
    size: Sequence[int],
) -> Field:
    """The labels of one task.

    Args:
        task: the task.
        aspect: one of `ASPECTS`, or a category's name.
        annotations: of all pictures.
        files: by row, the name of the picture in `annotations`, or None where it has no labels.
        size: `(height, width)` of maps.

    Raises:
        DataError: a task that doesn't take this aspect, or other categories than the annotations'.
    """
    pictures = [None if file is None else annotations.pictures[file] for file in files]
    if aspect in ("masks", "silhouette"):
        return _map_field(task, aspect, annotations, pictures, size)
    makers: dict[str, Callable[..., Any]] = {
        "boxes": _boxes,
        "box": _box,
        "points": _points,
        "categories": _categories,
        "category": _category,
        "count": _count,
    }
    if aspect in makers:
        _check_kind(task, aspect)
        labels = makers[aspect](task, annotations, pictures, files)
    elif aspect in annotations.categories:
        labels = _is_there(task, annotations.categories.index(aspect), pictures)
    else:
        raise DataError(
            unknown_name(
                f"label of annotations for task '{task.name}':",
                aspect,
                [*ASPECTS, *annotations.categories],
            )
        )
    return ArrayField(labels)


def _check_kind(task: Task, aspect: str) -> None:
    expected = {"masks": "segmentation", "silhouette": "segmentation"}
    expected |= {name: kind for kind, name in _BY_KIND.items()}
    if task.kind != expected[aspect]:
        raise DataError(
            f"'{aspect}' ({ASPECTS[aspect]}) are labels of another kind of task than "
            f"{type(task).__name__} '{task.name}'."
        )


def category_numbers(task: Any, annotations: Annotations, count: int) -> dict[int, int]:
    """The task's class of each category, by name where the task has names, else in their order.

    Args:
        task: with `labels` and `name`.
        annotations: with the categories.
        count: int. Number of the task's classes.

    Raises:
        DataError: names or a number of classes that do not fit.
    """
    categories = annotations.categories
    if task.labels is None:
        if count != len(categories):
            raise DataError(
                f"Task '{task.name}' has {count} classes, and {annotations.source} has "
                f"{len(categories)} categories: {', '.join(categories)}. Name the task's `labels`."
            )
        return {number: number for number in range(count)}
    numbers = {
        number: task.labels.index(name)
        for number, name in enumerate(categories)
        if name in task.labels
    }
    strange = [name for name in task.labels if name not in (*categories, "background")]
    if strange:
        raise DataError(
            f"Task '{task.name}' has the label '{strange[0]}', which is no category of "
            f"{annotations.source}: {', '.join(categories)}."
        )
    return numbers


# ------------------------------------------------------------------ one function per aspect
Pictures = Sequence[AnnotatedPicture | None]


def _boxes(task: Any, annotations: Annotations, pictures: Pictures, _: Any) -> np.ndarray:
    numbers = category_numbers(task, annotations, task.num_classes)
    rows = []
    for picture in pictures:
        items = [] if picture is None else picture.boxes()
        rows.append(
            [(*item.box, numbers[item.category]) for item in items if item.category in numbers]
        )
    return pad_boxes(rows, [picture is None for picture in pictures])


def pad_boxes(rows: Sequence[Sequence[Any]], is_missing: Sequence[bool]) -> np.ndarray:
    """Labels of a `Detection` task, `(rows, most objects, 5)`: class -1 fills up, NaN where a row
    has no label."""
    most = max(1, *(len(row) for row in rows))
    labels = np.zeros((len(rows), most, 5), "float32")
    labels[..., 4] = -1
    for label, row in zip(labels, rows, strict=True):
        if row:
            label[: len(row)] = row
    labels[np.asarray(is_missing, bool)] = np.nan
    return labels


def _box(task: Any, annotations: Annotations, pictures: Pictures, _: Any) -> np.ndarray:
    largest = [None if picture is None else picture.largest() for picture in pictures]
    rows = [(np.nan,) * 4 if item is None else item.box for item in largest]
    return np.asarray(rows, "float32").reshape(-1, 4)


def _points(task: Any, annotations: Annotations, pictures: Pictures, _: Any) -> np.ndarray:
    names = {number: list(names) for number, names in annotations.points.items()}
    fitting = [
        number
        for number, points in names.items()
        if (points == task.labels if task.labels else len(points) == task.num_points)
    ]
    if not fitting:
        shown = "; ".join(", ".join(points) for points in names.values())
        raise DataError(
            f"Task '{task.name}' has {task.num_points} points, and {annotations.source} has other "
            f"ones: {shown or 'none'}."
        )
    labels = np.full((len(pictures), task.num_points, 2), np.nan, "float32")
    for label, picture in zip(labels, pictures, strict=True):
        marks = [
            (item.area, item.points)
            for item in ([] if picture is None else picture.boxes())
            if item.category in fitting and item.points is not None
        ]
        marks = [(area, points) for area, points in marks if np.isfinite(points).any()]
        if marks:
            _, points = max(marks, key=lambda mark: mark[0])
            is_inside = np.all((points >= 0) & (points <= 1), axis=-1, keepdims=True)
            label[:] = np.where(is_inside, points, np.nan)
    return labels


def _categories(task: Any, annotations: Annotations, pictures: Pictures, _: Any) -> np.ndarray:
    numbers = category_numbers(task, annotations, task.num_labels)
    labels = np.full((len(pictures), task.num_labels), -1, "int32")
    for label, picture in zip(labels, pictures, strict=True):
        if picture is not None:
            label[:] = 0
            label[[numbers[i.category] for i in picture.objects if i.category in numbers]] = 1
    return labels


def _category(
    task: Any, annotations: Annotations, pictures: Pictures, files: Sequence[str | None]
) -> np.ndarray:
    numbers = category_numbers(task, annotations, task.num_classes)
    labels = np.full(len(pictures), -1, "int32")
    for row, picture in enumerate(pictures):
        classes = {i.category for i in picture.objects} if picture is not None else set()
        if len(classes) > 1:
            names = ", ".join(annotations.categories[number] for number in sorted(classes))
            raise DataError(
                f"{files[row]} holds objects of several categories ({names}), and task "
                f"'{task.name}' takes one class a picture. Use a MultiLabel task."
            )
        if classes:
            labels[row] = numbers.get(classes.pop(), -1)
    return labels


def _count(task: Any, annotations: Annotations, pictures: Pictures, _: Any) -> np.ndarray:
    return np.asarray(
        [np.nan if picture is None else len(picture.boxes()) for picture in pictures], "float32"
    )


def _is_there(task: Any, category: int, pictures: Pictures) -> np.ndarray:
    if task.kind != "binary":
        raise DataError(
            f"Whether a category is in the picture is the label of a Binary task. Task "
            f"'{task.name}' is of the kind {type(task).__name__}."
        )
    answers = [
        -1 if picture is None else int(any(i.category == category for i in picture.objects))
        for picture in pictures
    ]
    return np.asarray(answers, "int32")


def _map_field(
    task: Any,
    aspect: str,
    annotations: Annotations,
    pictures: Pictures,
    size: Sequence[int],
) -> Field:
    _check_kind(task, aspect)
    numbers: Mapping[int, int]
    empty = 0
    if task.num_classes == 1:
        numbers = dict.fromkeys(range(len(annotations.categories)), 1)
        if task.labels is not None and task.labels[0] in annotations.categories:
            numbers = {annotations.categories.index(task.labels[0]): 1}
    elif task.labels is None and task.num_classes == len(annotations.categories) + 1:
        numbers = {number: number + 1 for number in range(len(annotations.categories))}
    else:
        numbers = category_numbers(task, annotations, task.num_classes)
        # Without a class for it, what no object covers has no label.
        has_background = task.labels is not None and "background" in task.labels
        empty = task.labels.index("background") if has_background else -1

    def read(row: int) -> np.ndarray:
        picture = pictures[row]
        if picture is None:
            return np.full((*size, 1), -1, "int32")
        return picture.class_map(numbers, size, empty)[..., None]

    return FunctionField(read, len(pictures), (*size, 1), "int32")
