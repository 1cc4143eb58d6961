"""Annotations in COCO's format from boxes and polygons."""

from __future__ import annotations

from attnzoo.zoo.data.formats.objects import CocoBuilder


def test_boxes_are_clipped_and_polygons_measured():
    builder = CocoBuilder(["crab", "fish"])
    builder.add_image("a.jpg", 24, 32)
    builder.add_box(1, (-2, 3, 40, 9))
    builder.add_image("b.jpg", 10, 10)
    builder.add_polygon(0, [1, 1, 5, 1, 5, 4])
    builder.add_box(0, (2, 2, 4, 4), ignore=True)
    content = builder.content()
    assert content["categories"] == [{"id": 1, "name": "crab"}, {"id": 2, "name": "fish"}]
    assert [image["id"] for image in content["images"]] == [1, 2]
    box, polygon, ignored = content["annotations"]
    assert (box["bbox"], box["area"], box["image_id"], box["segmentation"]) == ([0, 3, 32, 6], 192, 1, [])
    assert (polygon["bbox"], polygon["area"], polygon["category_id"]) == ([1, 1, 4, 3], 6, 1)
    assert (ignored["iscrowd"], ignored["image_id"]) == (1, 2)
    assert [one["id"] for one in content["annotations"]] == [1, 2, 3]
