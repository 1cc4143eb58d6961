from typing import Any

import numpy as np
import pytest

from attnzoo.zoo.data.formats import segmentations
from attnzoo.zoo.data.formats.file_errors import FileErrors
from attnzoo.zoo.data.formats.segmentations import pack_segmentations, unpack_segmentation
from support import painted_coco

TRIANGLE = [1.5, 2, 30.125, 4, 5, 36]
DISC = painted_coco.disc(40, 50, 20, 25, 12)


def pack(given, sizes=(40, 50)) -> list[Any]:
    errors = FileErrors("a.json")
    packed = pack_segmentations(given, np.array([sizes] * len(given)), lambda index: f"annotation {index}", errors)
    errors.raise_if_any()
    return [unpack_segmentation(piece) for piece in packed]


@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_masks_survive_packing(monkeypatch, chunk):
    monkeypatch.setattr(segmentations, "_CHUNK", chunk)
    compressed = painted_coco.compressed(DISC)
    given = [[TRIANGLE], compressed, None, [TRIANGLE, [1, 2, 3, 4], [*TRIANGLE, 7, 8.001]], [], [[1, 2]]]
    given += [painted_coco.uncompressed(DISC), [[0, 0, -5, 1, 90.5, 1]]]
    first, rle, none, several, empty, line, uncompressed, outside = pack(given)
    assert none is empty is line is None
    np.testing.assert_array_equal(first, np.reshape([TRIANGLE], (1, 3, 2)))
    assert [len(ring) for ring in several] == [3, 4]
    np.testing.assert_array_equal(several[1][3], [7, 8.001])
    np.testing.assert_array_equal(outside[0], [[0, 0], [-5, 1], [90.5, 1]])
    assert rle == uncompressed == (compressed["counts"].encode(), (40, 50))


@pytest.mark.parametrize(
    "value",
    [
        7,
        "abc",
        {},
        [7],
        [None],
        [[1, 2, 3, 4, 5]],
        [[1, 2, 3, 4, 5, "6"]],
        [[1, 2, 3, 4, 5, None]],
        [[1, 2, 3, 4, 5, float("nan")]],
        [[1, 2, 3, 4, 5, float("inf")]],
        [[1, 2, 3, 4, 5, 10**400]],
        [[1, 2, 3, 4, 5, 1e8]],
        [[[1, 2], [3, 4], [5, 6]]],
        [1, 2, 3, 4, 5, 6],
        {"size": [40, 50]},
        {"counts": "abc"},
        {"size": [40], "counts": "abc"},
        {"size": ["40", 50], "counts": "abc"},
        {"size": [40, 2**31], "counts": "abc"},
        {"size": [40, 50], "counts": 7},
        {"size": [40, 50], "counts": [1, "2"]},
        {"size": [40, 50], "counts": [2001, -1]},
        {"size": [40, 50], "counts": "ü"},
    ],
)
def test_what_is_not_a_mask_is_named(value):
    with pytest.raises(
        ValueError, match=r"a\.json has errors:\n- segmentation must be a list of .*: annotation 1 has "
    ):
        pack([[TRIANGLE], value, None])


def test_run_lengths_fit_their_image():
    counts = painted_coco.compressed(DISC)["counts"]
    with pytest.raises(ValueError, match="has errors") as caught:
        pack(
            [
                {"size": [40, 50], "counts": counts[:-1]},
                {"size": [40, 50], "counts": [5, 6]},
                {"size": [40, 50], "counts": [10**9, 10**9]},
                {"size": [40, 50], "counts": "~"},
                {"size": [50, 40], "counts": counts},
            ]
        )
    cover, size = str(caught.value).splitlines()[1:]
    assert cover.startswith("- run lengths must cover their height x width: annotation 0 has 40x50, but ")
    assert "annotation 1 has 40x50, but run lengths of 11 pixels" in cover
    assert "annotation 2 has 40x50, but run lengths of 2000000000 pixels" in cover
    assert "annotation 3 has 40x50, but damaged run lengths" in cover
    assert size.endswith("must be the height x width of their image: annotation 4 has 50x40, its image 40x50.")


def test_polygons_far_from_their_image_would_take_too_much_memory():
    (far,) = pack([[[-200, 0, 5, 0, 5, -200]]])
    assert far[0].min() == -200
    with pytest.raises(ValueError, match=r"must not extend beyond 4 times .*: annotation 1 has .*, annotation 2 has "):
        pack([None, [[-201, 0, 5, 0, 5, 5]], [TRIANGLE, [0, 0, 5, 0, 5, 2e6]], [TRIANGLE]])


def test_run_lengths_with_more_runs_than_pixels_are_not_decoded(monkeypatch):
    lengths = []
    totals = segmentations.run_length_totals
    monkeypatch.setattr(
        segmentations, "run_length_totals", lambda texts: lengths.extend(map(len, texts)) or totals(texts)
    )
    with pytest.raises(ValueError, match="annotation 0 has 40x50, but damaged run lengths"):
        pack([{"size": [40, 50], "counts": "1" * 10**6}])
    assert lengths == [1]
