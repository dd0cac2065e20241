"""Files of annotations: COCO, Pascal VOC, and what they share."""

from mtl_keras.data.annotations.annotations import (
    AnnotatedObject,
    AnnotatedPicture,
    Annotations,
)
from mtl_keras.data.annotations.coco import read_coco
from mtl_keras.data.annotations.voc import read_voc

__all__ = ["AnnotatedObject", "AnnotatedPicture", "Annotations", "read_coco", "read_voc"]
