import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from PIL import Image
from torch.utils.data import DataLoader

from attnzoo.zoo.data import (
    BrokenImageError,
    EpochSampler,
    EvaluationSampler,
    ImageClassificationDataset,
    SampleKey,
    classification_collate,
)
from attnzoo.zoo.registry import DATASETS

TRAIN = {"type": "SmallImageTrain", "size": 16, "rand_augment": "rand-m9-mstd0.5-inc1", "random_erasing": 0.5}
EVALUATION = {"type": "Evaluation", "size": 16, "crop_pct": 1.0}


@pytest.fixture
def folder(make_folder):
    return make_folder(count=5)


def break_files(root, names):
    for name in names:
        path = root / name
        path.write_bytes(path.read_bytes()[:200])
    return [str(root / name) for name in names]


def batches(root, workers, epoch=0, start=0):
    dataset = ImageClassificationDataset(str(root), transform=TRAIN)
    sampler = EpochSampler(dataset, num_repeats=2)
    sampler.set_epoch(epoch, start)
    return list(DataLoader(dataset, 4, sampler=sampler, num_workers=workers, collate_fn=classification_collate))


def same(first, second):
    return len(first) == len(second) and all(
        torch.equal(a["image"], b["image"]) and torch.equal(a["label"], b["label"]) and a["path"] == b["path"]
        for a, b in zip(first, second, strict=True)
    )


def test_entries_of_a_sample(folder):
    dataset = DATASETS.build({"type": "ImageClassificationDataset", "root": str(folder), "transform": EVALUATION})
    assert (len(dataset), dataset.classes, dataset.class_to_idx) == (10, ("cat", "dog"), {"cat": 0, "dog": 1})
    assert dataset.metainfo == {"classes": ("cat", "dog")}
    sample = dataset[SampleKey(3, 7, 1)]
    expected = Image.open(folder / "dog" / "2.png").resize((21, 16), Image.Resampling.BICUBIC).crop((2, 0, 18, 16))
    np.testing.assert_array_equal(sample.pop("image").permute(1, 2, 0).numpy(), np.asarray(expected))
    assert sample == {
        "label": 1,
        "index": 7,
        "epoch": 3,
        "repeat": 1,
        "path": str(folder / "dog" / "2.png"),
        "broken": [],
    }
    assert dataset[7]["epoch"] == 0


@pytest.mark.parametrize("index", [10, -1])
def test_samples_out_of_range_raise(folder, index):
    with pytest.raises(IndexError, match=f"no sample {index}"):
        ImageClassificationDataset(str(folder), transform=EVALUATION)[index]


def test_batches_do_not_depend_on_the_workers(folder):
    torch.manual_seed(0)
    expected = batches(folder, workers=0)
    torch.manual_seed(1)
    assert same(batches(folder, workers=2), expected)
    np.random.seed(3)  # noqa: NPY002
    assert same(batches(folder, workers=0), expected)


def test_a_resumed_epoch_yields_the_remaining_batches(folder):
    whole = batches(folder, workers=0, epoch=1)
    assert same(batches(folder, workers=0, epoch=1, start=4), whole[1:])
    assert same(batches(folder, workers=2, epoch=1, start=8), whole[2:])


def test_epochs_repeats_and_seeds_differ(folder):
    dataset = ImageClassificationDataset(str(folder), transform=TRAIN)
    other = ImageClassificationDataset(str(folder), transform=TRAIN, seed=1)
    images = [dataset[SampleKey(0, 2, 0)], dataset[SampleKey(1, 2, 0)], dataset[SampleKey(0, 2, 1)], other[2]]
    distinct = {sample["image"].numpy().tobytes() for sample in images}
    assert len(distinct) == 4
    assert torch.equal(dataset[2]["image"], images[0]["image"])


def test_broken_images_are_always_replaced_by_the_same_images(folder):
    broken = break_files(folder, ["cat/1.png", "dog/3.png"])
    dataset = ImageClassificationDataset(str(folder), transform=TRAIN)
    first = [dataset[SampleKey(epoch, 1)] for epoch in range(12)]
    for sample in first:
        assert sample["index"] == 1
        assert sample["broken"][0] == broken[0]
        assert set(sample["broken"]) <= set(broken)
        assert sample["path"] not in broken
        assert sample["label"] == ("dog" in sample["path"])
    assert len({sample["path"] for sample in first}) > 2
    again = ImageClassificationDataset(str(folder), transform=TRAIN)
    again[5]
    for epoch, sample in enumerate(first):
        repeated = again[SampleKey(epoch, 1)]
        assert torch.equal(repeated["image"], sample["image"])
        assert repeated["path"] == sample["path"]


def test_a_batch_lists_all_broken_images(folder):
    broken = break_files(folder, ["cat/1.png", "dog/3.png"])
    for workers in (0, 2):
        listed = [path for batch in batches(folder, workers) for path in batch["broken"]]
        assert set(listed) <= set(broken)
        assert listed


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_stops_evaluation_and_is_named(folder, workers):
    (broken,) = break_files(folder, ["dog/3.png"])
    dataset = ImageClassificationDataset(str(folder), transform=EVALUATION)
    loader = DataLoader(
        dataset, 2, sampler=EvaluationSampler(dataset), num_workers=workers, collate_fn=classification_collate
    )
    iterator = iter(loader)
    with pytest.raises(BrokenImageError, match=f"{broken} cannot be read: OSError"):
        list(iterator)
    for worker in getattr(iterator, "_workers", ()):
        worker.terminate()  # after an error, torch would wait 5 s for each


def test_replacing_broken_images_can_be_set(folder):
    break_files(folder, ["cat/0.png"])
    strict = ImageClassificationDataset(str(folder), transform=TRAIN, replace_broken=False)
    with pytest.raises(BrokenImageError):
        strict[0]
    lenient = ImageClassificationDataset(str(folder), transform=EVALUATION, replace_broken=True)
    assert len(lenient[0]["broken"]) >= 1


def test_too_many_broken_images_stop_training(folder):
    names = [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(5)]
    break_files(folder, names)
    dataset = ImageClassificationDataset(str(folder), transform=TRAIN, max_retries=3)
    with pytest.raises(BrokenImageError, match=r"3 others tried before are broken, too: .*cat/0\.png") as caught:
        dataset[0]
    assert str(caught.value).count(".png") == 4


def test_a_deleted_file_is_broken(folder):
    dataset = ImageClassificationDataset(str(folder), transform=EVALUATION)
    (folder / "cat" / "0.png").unlink()
    with pytest.raises(BrokenImageError, match="FileNotFoundError"):
        dataset[0]


def test_an_error_in_a_transform_is_not_a_broken_image(folder):
    def failing(image):
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug") as caught:
        ImageClassificationDataset(str(folder), transform=failing, replace_broken=True)[0]
    assert not isinstance(caught.value, BrokenImageError)


def test_the_number_of_classes_is_checked(folder):
    ImageClassificationDataset(str(folder), transform=EVALUATION, num_classes=2)
    with pytest.raises(ValueError, match=r"images has 2 classes, not num_classes=1000"):
        ImageClassificationDataset(str(folder), transform=EVALUATION, num_classes=1000)
    with pytest.raises(ValueError, match="needs a transform"):
        ImageClassificationDataset(str(folder))


@pytest.mark.parametrize("workers", [0, 2])
def test_mmengines_runner_builds_the_loader(folder, workers):
    before = dict(DefaultScope._instance_dict)
    DefaultScope.get_instance("test-loader", scope_name="attnzoo")
    try:
        loader = Runner.build_dataloader(
            {
                "batch_size": 4,
                "num_workers": workers,
                "drop_last": True,
                "dataset": {"type": "ImageClassificationDataset", "root": str(folder), "transform": TRAIN},
                "sampler": {"type": "EpochSampler", "num_repeats": 2},
                "collate_fn": {"type": "classification_collate"},
            },
            seed=0,
        )
    finally:
        DefaultScope._instance_dict.clear()
        DefaultScope._instance_dict.update(before)
    assert same(list(loader), batches(folder, 0)[:2])


def test_class_names_are_known_before_images_are_read(make_folder, tmp_path):
    names = ImageClassificationDataset.class_names
    root = make_folder(classes=("10", "9", "cat"), count=1)
    assert names(root=str(root)) == ("9", "10", "cat") == ImageClassificationDataset(str(root), transform=TRAIN).classes
    assert names(root=str(root.parent), split=root.name) == ("9", "10", "cat")
    assert names(root="nowhere", class_map=["b", "a"]) == ("b", "a")
    assert names(root="nowhere", class_map={"dog": 0, "wolf": 0, "cat": 1}) == ("dog/wolf", "cat")
    imagenet = names(root="nowhere", class_map="imagenet-1k")
    assert imagenet is not None
    assert (len(imagenet), imagenet[0]) == (1000, "n01440764")
    (root / "names.txt").write_text("x\ny\n")
    assert names(root=str(root), class_map="names.txt") == ("x", "y")
    with pytest.raises(ValueError, match=r"class map 'others\.txt'"):
        names(root=str(root), class_map="others.txt")
    assert names(root=str(root.parent)) == (root.name,)  # a class with folders of images inside
    # Folders of splits, lists, tar files and other data sets: only the built data set knows.
    for split in ("train", "val"):
        (tmp_path / "splits" / split).mkdir(parents=True)
    assert names(root=str(tmp_path / "splits")) is None
    assert names(root=str(root), annotations="val.txt") is None
    assert names(root=str(root), reader="tar") is None
    assert names(root="nowhere") is None


def test_missing_folders_are_named_by_their_argument(make_folder):
    check = ImageClassificationDataset.check_paths
    root = make_folder("train")
    assert list(check(root=str(root))) == []
    assert list(check(root=str(root.parent), split="train")) == []
    assert list(check(root=str(root.parent), split="val", annotations="val.txt")) == []
    assert list(check(root="hfds/nobody/nothing", split="val")) == list(check(root="nothing", reader="hfds")) == []
    (problem,) = check(root=str(root.parent), split="trian")
    assert problem == (
        f"split: there is neither a folder {root.parent / 'trian'} nor trian.tar. Did you mean {root.parent / 'train'}?"
    )
    (problem,) = check(root=str(root.parent / "nothing"), split="train")
    assert problem.startswith(f"root: there is no {root.parent / 'nothing'} (from ")
