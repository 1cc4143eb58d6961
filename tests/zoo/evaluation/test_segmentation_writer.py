"""Predicted label maps are written exactly, under names that tell their images."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from attnzoo.zoo.evaluation import SegmentationWriter
from support.evaluation import CLASS_NAMES, evaluate, metric, segmented


def read(path):
    with Image.open(path) as image:
        return image.mode, np.asarray(image), image.getpalette()


@pytest.mark.parametrize("shift", [0, 1])
def test_predicted_labels_are_written_exactly(tmp_path, shift):
    samples = segmented(3)
    made = metric("SegmentationWriter", out_dir=str(tmp_path / "new"), shift=shift)
    assert evaluate(made, samples) == {}
    for sample in samples:
        mode, values, _ = read(tmp_path / "new" / f"{sample['index']}.png")
        assert mode == "L"
        np.testing.assert_array_equal(values, sample["label_map"] + shift)
    content = json.loads((tmp_path / "new/index.json").read_text())
    files = [{"image": f"in/{number}.png", "labels": f"{number}.png"} for number in range(3)]
    assert content == {"classes": list(CLASS_NAMES), "shift": shift, "files": files}


def test_colours_leave_the_numbers_as_they_are(tmp_path):
    (sample,) = segmented(1)
    made = SegmentationWriter(str(tmp_path), shift=1, colours=True)
    made.dataset_meta = {"classes": CLASS_NAMES, "palette": [[10 * label, 1, 2] for label in range(5)]}
    evaluate(made, [sample])
    mode, values, palette = read(tmp_path / "0.png")
    np.testing.assert_array_equal(values, sample["label_map"] + 1)
    assert palette is not None
    assert (mode, palette[:9]) == ("P", [0, 0, 0, 0, 1, 2, 10, 1, 2])
    with pytest.raises(ValueError, match="needs a `palette` in the metainfo"):
        metric("SegmentationWriter", out_dir=str(tmp_path), colours=True).process({}, [sample])


def test_images_of_one_name_keep_their_folders(tmp_path):
    samples = segmented(2)
    samples[0]["path"], samples[1]["path"] = "in/a/x.jpg", "in/b/x.jpg"
    with pytest.raises(ValueError, match=r"in/a/x\.jpg and in/b/x\.jpg were both written to .*x\.png\. Set folders=1"):
        evaluate(metric("SegmentationWriter", out_dir=str(tmp_path)), samples)
    evaluate(metric("SegmentationWriter", out_dir=str(tmp_path), folders=1), samples)
    for sample, folder in zip(samples, "ab", strict=True):
        np.testing.assert_array_equal(read(tmp_path / folder / "x.png")[1], sample["label_map"])


def test_impossible_files_raise(tmp_path):
    (sample,) = segmented(1)
    sample["label_map"] = sample["label_map"] + 252
    with pytest.raises(ValueError, match=r"got 253 to 256 for in/0\.png with shift=1"):
        metric("SegmentationWriter", out_dir=str(tmp_path), shift=1).process({}, [sample])
    with pytest.raises(ValueError, match="shift must be an integer between 0 and 255, got"):
        SegmentationWriter(shift=-1)
    with pytest.raises(ValueError, match="folders must be an integer >= 0, got"):
        SegmentationWriter(folders=-1)
