"""Pictures, sounds and texts as inputs of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtl_keras.data.folders import maps
from mtl_keras.data.folders.annotation_labels import AnnotationLabels
from mtl_keras.data.folders.assignments import Assignment
from mtl_keras.data.folders.files import map_parallel
from mtl_keras.data.folders.pictures import check_pictures, picture_field
from mtl_keras.data.folders.rows import Rows
from mtl_keras.data.folders.sounds import check_sounds, choose_seconds, find_lengths, sound_field
from mtl_keras.data.texts import RawTexts
from mtl_keras.runtime.encoders import ImageEncoder, SoundEncoder

__all__ = ["picture_inputs", "sound_inputs", "text_inputs"]


def picture_inputs(
    rows: Rows, assignments: Sequence[Assignment], options: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[int, ...]]:
    """Pictures as `from_parts` takes them, and the size of maps."""
    size = options["size"]
    size = (size, size) if isinstance(size, int) else tuple(size)
    encoder = ImageEncoder(size, options["channels"])
    _check_pictures(rows, assignments)
    rows.drop_problems()
    pictures = picture_field(rows.paths(), encoder, rows.names(), rows.request.cache)
    inputs: dict[str, Any] = {
        "inputs": {encoder.name: pictures},
        "encoder": encoder,
        "backbone": "small_cnn",
    }
    return inputs, encoder.size


def sound_inputs(
    rows: Rows, assignments: Sequence[Assignment], options: Mapping[str, Any]
) -> tuple[dict[str, Any], None]:
    """Sounds as `from_parts` takes them."""
    rate = options["sample_rate"]
    lengths = find_lengths(rows.paths())
    encoder = SoundEncoder(rate, choose_seconds(rows.paths(), lengths, options["seconds"]))
    rows.add_problems(check_sounds(rows.paths(), encoder, rows.request.skips))
    rows.drop_problems()
    longer = int((lengths > encoder.seconds + 0.5 / rate).sum())
    if longer:
        rows.remarks.append(
            f"{longer} sounds are longer than {encoder.seconds:g} s and are cut; the longest has "
            f"{lengths.max():.3g} s."
        )
    sounds = sound_field(rows.paths(), encoder, rows.names(), rows.request.cache)
    # Windows of 30 ms every 10 ms at each rate.
    backbone = {"sample_rate": rate, "hop": rate // 100, "window": 3 * (rate // 100)}
    return {
        "inputs": {encoder.name: sounds},
        "encoder": encoder,
        "backbone": "log_mel_cnn",
        "backbone_options": backbone,
    }, None


def text_inputs(
    rows: Rows, assignments: Sequence[Assignment], options: Mapping[str, Any]
) -> tuple[dict[str, Any], None]:
    """Texts as `from_parts` takes them; they are held in memory."""

    def read(path: Path) -> tuple[str, str | None]:
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            return "", f"it is no text in UTF-8: {error}."
        return text, None if text.strip() else "it is empty."

    texts = map_parallel(read, rows.paths())
    by_file = dict(zip(rows.numbers.tolist(), (text for text, _ in texts), strict=True))
    rows.add_problems([problem for _, problem in texts])
    rows.drop_problems()
    return {"raw": RawTexts([by_file[number] for number in rows.numbers.tolist()])}, None


def _check_pictures(rows: Rows, assignments: Sequence[Assignment]) -> None:
    """Pictures that can't be read, and labels that do not fit their sizes."""
    checks = check_pictures(rows.paths(), rows.request.skips)
    rows.add_problems([problem for _, problem in checks])
    for number, (size, _) in zip(rows.numbers.tolist(), checks, strict=True):
        if size is not None:
            rows.sizes[number] = size
    if isinstance(rows.source, AnnotationLabels):
        rows.source.check_sizes([rows.sizes.get(number) for number in rows.source.files])
    for assignment in assignments:
        if assignment.pattern is None and assignment.task.kind not in maps.MAP_KINDS:
            rows.source.check(assignment.task, assignment.column, rows.find_sizes)
