"""Small COCO and Pascal VOC files for tests."""

import json

CATEGORIES = [
    {"id": 70, "name": "dog", "keypoints": ["nose", "tail"]},
    {"id": 3, "name": "cat"},
]
IMAGES = [
    {"id": 11, "file_name": "a.png", "width": 40, "height": 20},
    {"id": 5, "file_name": "sub/b.png", "width": 10, "height": 10},
    {"id": 6, "file_name": "empty.png", "width": 10, "height": 10},
]
ANNOTATIONS = [
    {
        "id": 1,
        "image_id": 11,
        "category_id": 70,
        "bbox": [10, 5, 20, 10],
        "segmentation": [[10, 5, 30, 5, 30, 15, 10, 15]],
        "keypoints": [12, 6, 2, 0, 0, 0],
    },
    {"id": 2, "image_id": 11, "category_id": 3, "bbox": [0, 0, 4, 2]},
    {
        "id": 3,
        "image_id": 5,
        "category_id": 3,
        "bbox": [0, 0, 5, 10],
        "segmentation": {"counts": [0, 50, 50], "size": [10, 10]},
        "iscrowd": 0,
    },
    {"id": 4, "image_id": 5, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1},
]


def write_coco(path, **changes):
    content = {"images": IMAGES, "categories": CATEGORIES, "annotations": ANNOTATIONS, **changes}
    path.write_text(json.dumps(content))
    return path


def write_voc(path, name, objects, size=(100, 50)):
    parts = "".join(
        f"<object><name>{kind}</name><difficult>{int(difficult)}</difficult><bndbox>"
        f"<xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax>"
        f"</bndbox></object>"
        for kind, box, difficult in objects
    )
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>" if size else ""
    path.write_text(f"<annotation><filename>{name}</filename>{sides}{parts}</annotation>")
