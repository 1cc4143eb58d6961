from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.transforms_factory import create_transform

from attnzoo.zoo.data.classification.transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    ErasePatch,
    Evaluation,
    ImageNetTrain,
    SmallImageTrain,
)
from attnzoo.zoo.registry import TRANSFORMS
from attnzoo.zoo.seeding import isolated_randomness


def run(transform, image, seed=0):
    with isolated_randomness(seed):
        return transform(image)


@pytest.mark.parametrize("size", [32, (24, 40)])
@pytest.mark.parametrize("kind", ["ImageNetTrain", "SmallImageTrain", "Evaluation"])
@pytest.mark.parametrize("image_size", [(40, 30), (7, 90), (1, 1), (32, 32)])
def test_outputs_are_uint8_of_the_requested_size(make_image, kind, size, image_size):
    transform = TRANSFORMS.build({"type": kind, "size": size})
    got = run(transform, make_image(0, *image_size))
    height, width = (size, size) if isinstance(size, int) else size
    assert got.dtype == torch.uint8
    assert got.shape == (3, height, width)
    assert transform.training == (kind != "Evaluation")


def test_evaluation_resizes_with_pil_and_crops_the_center(make_image):
    image = make_image(1, 90, 60)
    got = Evaluation(size=28, crop_pct=0.875, interpolation="bicubic")(image)
    resized = image.resize((48, 32), Image.Resampling.BICUBIC)
    expected = np.asarray(resized)[2:30, 10:38]
    np.testing.assert_array_equal(got.permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
def test_normalized_evaluation_equals_timms(make_image, crop_mode):
    image = make_image(2, 51, 83)
    timms: Any = create_transform((3, 32, 32), crop_pct=0.9, crop_mode=crop_mode, interpolation="bicubic")
    ours = Evaluation(size=32, crop_pct=0.9, crop_mode=crop_mode)(image)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    torch.testing.assert_close((ours.float() / 255 - mean) / std, timms(image), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [ImageNetTrain, SmallImageTrain])
def test_training_transforms_depend_on_the_generators_alone(make_image, kind):
    image = make_image(3)
    transform = kind(size=32, rand_augment="rand-m9-mstd0.5-inc1", random_erasing=0.5)
    results = [run(transform, image, seed) for seed in (0, 1, 0)]
    assert torch.equal(results[0], results[2])
    assert not torch.equal(results[0], results[1])


@pytest.mark.parametrize("kind", [ImageNetTrain, SmallImageTrain])
def test_every_rand_augment_magnitude_can_be_applied(make_image, kind):
    # Strength 10 posterizes to 0 bits, which PIL refuses.
    transform = kind(size=16, rand_augment="rand-m10-n6-p1.0-inc1")
    image = make_image(4)
    for seed in range(60):
        run(transform, image, seed)


def test_posterizing_to_0_bits_is_black(make_image):
    transform = SmallImageTrain(size=16, rand_augment="rand-m10-p1.0-inc1")
    (augment,) = [step for step in transform.steps if hasattr(step, "ops")]
    (operation,) = [one for one in augment.ops if one.name == "PosterizeIncreasing"]
    assert np.asarray(operation(make_image(0))).max() == 0


def test_a_small_image_is_padded_and_cropped(make_image):
    image = make_image(5, 32, 32)
    whole = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)
    padded = torch.nn.functional.pad(whole, (4, 4, 4, 4))
    crops = {padded[:, top : top + 32, left : left + 32].numpy().tobytes() for top in range(9) for left in range(9)}
    transform = SmallImageTrain(size=32, padding=4, flip=0.0)
    results = {run(transform, image, seed).numpy().tobytes() for seed in range(40)}
    assert results <= crops
    assert len(results) > 20


def test_rand_augment_of_small_images_is_set_up_as_timms():
    policy = "rand-m9-mstd0.5-inc1"
    timms: Any = create_transform((3, 16, 40), is_training=True, auto_augment=policy, interpolation="bicubic")
    steps = [*timms.transforms, *SmallImageTrain(size=(16, 40), rand_augment=policy).steps]
    theirs, ours = (step for step in steps if hasattr(step, "ops"))
    assert [one.hparams for one in ours.ops] == [one.hparams for one in theirs.ops]
    assert ours.ops[0].hparams["translate_const"] == 7


def test_a_large_image_is_shrunk_with_its_aspect_ratio(make_image):
    image = make_image(7, 90, 40)
    covering = torch.from_numpy(np.array(image.resize((45, 20), Image.Resampling.BICUBIC))).permute(2, 0, 1)
    crops = {covering[:, :, left : left + 30].numpy().tobytes() for left in range(16)}
    transform = SmallImageTrain(size=(20, 30), padding=0, flip=0.0)
    results = {run(transform, image, seed).numpy().tobytes() for seed in range(20)}
    assert results <= crops
    assert len(results) > 8


def test_flips_follow_their_probability(make_image):
    image = make_image(6, 32, 32)
    plain = run(SmallImageTrain(padding=0, flip=0.0), image)
    assert torch.equal(run(SmallImageTrain(padding=0, flip=1.0), image), plain.flip(-1))


def erased(mode, probability=1.0, seed=0, **options):
    image = torch.randint(0, 256, (3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    before = image.clone()
    with isolated_randomness(seed):
        after = ErasePatch(probability, mode, **options)(image)
    assert torch.equal(image, before)
    return after, (after != before).any(0)


def test_normalized_noise_has_mean_0_and_std_1():
    samples = []
    for seed in range(40):
        after, changed = erased("pixel", seed=seed)
        rows, columns = changed.any(1).nonzero().ravel(), changed.any(0).nonzero().ravel()
        patch = after[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        samples.append(((patch.float() / 255 - mean) / std).flatten(1))
    noise = torch.cat(samples, 1)
    assert noise.mean(1).abs().max() < 0.05
    assert (noise.std(1) - 1).abs().max() < 0.06


def test_pixels_outside_of_the_patch_do_not_change():
    after, changed = erased("const", mean=(0.5, 0.25, 0.0), std=(0.2, 0.3, 0.4))
    rows, columns = changed.any(1).nonzero().ravel(), changed.any(0).nonzero().ravel()
    patch = after[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert 0 < patch[0].numel() <= 64 * 64 / 3 + 128
    assert changed.sum() <= patch[0].numel()
    assert [channel.unique().tolist() for channel in patch] == [[128], [64], [0]]


def test_one_random_color_fills_the_patch():
    after, changed = erased("rand")
    assert all(after[channel][changed].unique().numel() <= 2 for channel in range(3))


def test_erasing_follows_its_probability():
    shares = [sum(bool(erased("pixel", chance, seed)[1].any()) for seed in range(200)) / 200 for chance in (0, 0.25, 1)]
    assert shares[0] == 0
    assert abs(shares[1] - 0.25) < 0.1
    assert shares[2] == 1


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("ImageNetTrain", {"size": 0}, "size"),
        ("ImageNetTrain", {"size": (3, 224, 224)}, "size"),
        ("ImageNetTrain", {"scale": (0.5, 0.1)}, "scale"),
        ("ImageNetTrain", {"ratio": (0, 1)}, "ratio"),
        ("ImageNetTrain", {"interpolation": "bicubc"}, "Did you mean 'bicubic'"),
        ("ImageNetTrain", {"rand_augment": "rand-m9-mst0.5"}, "rand_augment"),
        ("ImageNetTrain", {"rand_augment": "rand-magnitude"}, "rand_augment"),
        ("ImageNetTrain", {"flip": 2}, "flip"),
        ("ImageNetTrain", {"random_erasing": -0.1}, "random_erasing"),
        ("ImageNetTrain", {"erasing_mode": "pixels"}, "Did you mean 'pixel'"),
        ("SmallImageTrain", {"padding": 32}, "padding"),
        ("SmallImageTrain", {"padding_mode": "reflection"}, "Did you mean 'reflect'"),
        ("SmallImageTrain", {"interpolation": "random"}, "interpolation"),
        ("SmallImageTrain", {"rand_augment": "augmix-m3"}, "rand_augment"),
        ("Evaluation", {"crop_pct": 1.5}, "crop_pct"),
        ("Evaluation", {"crop_mode": "centre"}, "Did you mean 'center'"),
        ("Evaluation", {"interpolation": "random"}, "interpolation"),
    ],
)
def test_impossible_settings_raise(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        TRANSFORMS.build({"type": kind, **arguments})
