import json

import numpy as np
import pytest
import torch
from PIL import Image

from attnzoo.zoo.evaluation import MeanIoU, SegmentationWriter, base
from attnzoo.zoo.evaluation.mean_iou import confusion_of
from attnzoo.zoo.registry import METRICS

NAMES = ("sky", "tree", "cat", "dog", "never")


def predictions(count=6, classes=4, seed=0):
    """Label maps of different sizes; predictions are right for about two thirds of the pixels."""
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for index in range(count):
        size = (20 + index, 30 - index)
        truth = torch.randint(0, classes, size, generator=generator)
        wrong = torch.rand(size, generator=generator) < 0.4
        predicted = torch.where(wrong, torch.randint(0, classes, size, generator=generator), truth)
        truth[torch.rand(size, generator=generator) < 0.1] = 255
        samples.append(
            {"label_map": predicted, "truth": truth.to(torch.uint8), "index": index, "path": f"in/{index}.png"}
        )
    return samples


def metric(kind="MeanIoU", classes=NAMES, **arguments):
    made = METRICS.build({"type": kind, **arguments})
    made.dataset_meta = {"classes": classes}
    return made


def evaluate(made, samples):
    made.process({}, samples[:2])
    made.process({}, samples[2:])
    return made.evaluate(len(samples))


def brute_force(samples, classes):
    """Figures from all pixels of all images in one row, counted class by class."""
    truth = torch.cat([sample["truth"].flatten().long() for sample in samples])
    predicted = torch.cat([sample["label_map"].flatten() for sample in samples])[truth != 255]
    truth = truth[truth != 255]
    iou, accuracy = [], []
    for label in range(classes):
        both = ((truth == label) & (predicted == label)).sum().item()
        either = ((truth == label) | (predicted == label)).sum().item()
        total = (truth == label).sum().item()
        iou.append(100 * both / either if either else None)
        accuracy.append(100 * both / total if total else None)
    confusion = [
        [((truth == row) & (predicted == column)).sum().item() for column in range(classes)] for row in range(classes)
    ]
    return iou, accuracy, 100 * (truth == predicted).double().mean().item(), confusion


def mean(values):
    known = [value for value in values if value is not None]
    return sum(known) / len(known)


def test_figures_are_those_of_all_pixels_together():
    samples = predictions()
    iou, accuracy, right, _ = brute_force(samples, len(NAMES))
    got = evaluate(metric(), samples)
    assert got == {
        "mIoU": pytest.approx(mean(iou)),
        "mAcc": pytest.approx(mean(accuracy)),
        "aAcc": pytest.approx(right),
    }
    assert iou[4] is None
    alone = [evaluate(metric(), [{**sample, "index": 0}])["mIoU"] for sample in samples]
    assert abs(float(np.mean(alone)) - got["mIoU"]) > 1e-3


def test_a_class_that_is_only_predicted_counts_in_miou_alone():
    truth, predicted = torch.tensor([[0, 0, 1, 255]]), torch.tensor([[0, 0, 2, 3]])
    sample = {"truth": truth, "label_map": predicted, "index": 0, "path": "a"}
    got = evaluate(metric(), [sample])
    # Class 2 is predicted once, never right; class 3 is predicted only where nothing counts.
    assert got["mIoU"] == pytest.approx((100 + 0 + 0) / 3)
    assert got["mAcc"] == pytest.approx((100 + 0) / 2)
    assert got["aAcc"] == pytest.approx(200 / 3)


def test_nothing_to_count_gives_0():
    sample = {
        "truth": torch.full((2, 2), 255),
        "label_map": torch.zeros(2, 2, dtype=torch.int64),
        "index": 0,
        "path": "a",
    }
    assert evaluate(metric(), [sample]) == {"mIoU": 0.0, "mAcc": 0.0, "aAcc": 0.0}


def test_figures_of_classes_and_the_confusion_matrix(tmp_path):
    samples = predictions(seed=1)
    iou, accuracy, _, confusion = brute_force(samples, len(NAMES))
    got = evaluate(metric(per_class=True, out_file=str(tmp_path / "new/classes.json")), samples)
    content = json.loads((tmp_path / "new/classes.json").read_text())
    assert content["confusion"] == confusion
    assert content["figures"] == {name: got[name] for name in ("mIoU", "mAcc", "aAcc")}
    assert [one["name"] for one in content["classes"]] == list(NAMES)
    assert [one["pixels"] for one in content["classes"]] == [sum(row) for row in confusion]
    for label, one in enumerate(content["classes"][:4]):
        assert one["IoU"] == pytest.approx(iou[label]) == pytest.approx(got[f"IoU.{NAMES[label]}"])
        assert one["Acc"] == pytest.approx(accuracy[label]) == pytest.approx(got[f"Acc.{NAMES[label]}"])
    assert content["classes"][4] == {"name": "never", "IoU": None, "Acc": None, "pixels": 0}
    assert "IoU.never" not in got


def test_processes_of_unequal_length_are_put_together_exactly(monkeypatch):
    samples = predictions(5)
    alone = evaluate(metric(), samples)
    first, second = metric(), metric()
    first.process({}, samples[0::2])
    second.process({}, [*samples[1::2], samples[0]])
    monkeypatch.setattr(base, "all_gather_object", lambda own: [list(own), list(second.results)])
    assert first.evaluate(5) == alone
    missing = metric()
    missing.process({}, samples[:3])
    monkeypatch.undo()
    with pytest.raises(ValueError, match="MeanIoU got 3 of the data set's 5 samples"):
        missing.evaluate(5)


def test_what_is_kept_of_an_image_is_small():
    (sample,) = predictions(1)
    pairs, pixels = confusion_of(sample["label_map"], sample["truth"], 150, "a")
    assert len(pairs) == len(pixels) == 16
    assert pixels.sum() == (sample["truth"] != 255).sum()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"truth": torch.full((20, 30), 5)},
            r"in/0\.png has the label 5, the data set has 5 classes: correct the labels",
        ),
        ({"truth": torch.full((20, 30), -1)}, r"in/0\.png has the label -1"),
        ({"label_map": torch.full((20, 30), 7)}, r"in/0\.png has the prediction 7, .* num_classes must be"),
        ({"label_map": torch.zeros(20, 29)}, r"in/0\.png: the prediction is \(20, 29\), the label map \(20, 30\)"),
        ({"truth": None}, r"in/0\.png has no labels.*SegmentationWriter"),
    ],
)
def test_what_cannot_be_counted_raises(change, message):
    (sample,) = predictions(1)
    with pytest.raises(ValueError, match=message):
        metric().process({}, [{**sample, **change}])


def test_class_names_are_needed():
    with pytest.raises(ValueError, match="needs the data set's class names"):
        MeanIoU().process({}, predictions(1))


def read(path):
    with Image.open(path) as image:
        return image.mode, np.asarray(image), image.getpalette()


@pytest.mark.parametrize("shift", [0, 1])
def test_predicted_labels_are_written_exactly(tmp_path, shift):
    samples = predictions(3)
    made = metric("SegmentationWriter", out_dir=str(tmp_path / "new"), shift=shift)
    assert evaluate(made, samples) == {}
    for sample in samples:
        mode, values, _ = read(tmp_path / "new" / f"{sample['index']}.png")
        assert mode == "L"
        np.testing.assert_array_equal(values, sample["label_map"] + shift)
    content = json.loads((tmp_path / "new/index.json").read_text())
    files = [{"image": f"in/{number}.png", "labels": f"{number}.png"} for number in range(3)]
    assert content == {"classes": list(NAMES), "shift": shift, "files": files}


def test_colours_leave_the_numbers_as_they_are(tmp_path):
    (sample,) = predictions(1)
    made = SegmentationWriter(str(tmp_path), shift=1, colours=True)
    made.dataset_meta = {"classes": NAMES, "palette": [[10 * label, 1, 2] for label in range(5)]}
    evaluate(made, [sample])
    mode, values, palette = read(tmp_path / "0.png")
    np.testing.assert_array_equal(values, sample["label_map"] + 1)
    assert palette is not None
    assert (mode, palette[:9]) == ("P", [0, 0, 0, 0, 1, 2, 10, 1, 2])
    with pytest.raises(ValueError, match="no `palette`"):
        metric("SegmentationWriter", out_dir=str(tmp_path), colours=True).process({}, [sample])


def test_images_of_one_name_keep_their_folders(tmp_path):
    samples = predictions(2)
    samples[0]["path"], samples[1]["path"] = "in/a/x.jpg", "in/b/x.jpg"
    with pytest.raises(ValueError, match=r"in/a/x\.jpg and in/b/x\.jpg were both written to .*x\.png: set folders=1"):
        evaluate(metric("SegmentationWriter", out_dir=str(tmp_path)), samples)
    evaluate(metric("SegmentationWriter", out_dir=str(tmp_path), folders=1), samples)
    for sample, folder in zip(samples, "ab", strict=True):
        np.testing.assert_array_equal(read(tmp_path / folder / "x.png")[1], sample["label_map"])


def test_impossible_files_raise(tmp_path):
    (sample,) = predictions(1)
    sample["label_map"] = sample["label_map"] + 252
    with pytest.raises(ValueError, match=r"in/0\.png has the predictions 253 to 256 \(shift 1 included\)"):
        metric("SegmentationWriter", out_dir=str(tmp_path), shift=1).process({}, [sample])
    with pytest.raises(ValueError, match="shift is"):
        SegmentationWriter(shift=-1)
    with pytest.raises(ValueError, match="folders is"):
        SegmentationWriter(folders=-1)
