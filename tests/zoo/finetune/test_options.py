"""What is chosen for a fine-tuning, and why."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from attnzoo.zoo.finetune.options import Facts, Options, choose_settings

FACTS = Facts("classification", 1000, 500, 224, 32, from_scratch=False, probe=False, cuda=False)


def chosen(given: dict[str, Any] | None = None, **facts: Any):
    return choose_settings(Options(**(given or {})), dataclasses.replace(FACTS, **facts))


def test_pretrained_weights_get_a_short_training_with_layer_decay():
    settings = chosen()
    assert (settings.image_size, settings.batch_size, settings.epochs, settings.warmup) == (224, 64, 100, 5)
    assert (settings.lr, settings.layer_decay, settings.amp) == (5e-4, 0.75, False)
    assert chosen(images=100_000).epochs == 10
    assert chosen(cuda=True).amp


def test_random_weights_get_a_long_one_without():
    settings = chosen(from_scratch=True)
    assert (settings.epochs, settings.lr, settings.layer_decay) == (300, 1e-3, 1.0)
    assert chosen(from_scratch=True, images=100_000).epochs == 30


def test_a_probe_has_one_rate():
    assert chosen(probe=True).layer_decay == 1
    assert chosen(probe=True).lr == 2e-3


@pytest.mark.parametrize(("side", "size"), [(500, 224), (112, 224), (100, 224), (96, 192), (32, 64), (8, 32)])
def test_small_images_are_enlarged_at_most_twice(side: int, size: int):
    assert chosen(side=side).image_size == size


def test_random_weights_take_images_as_they_are():
    assert chosen(side=32, from_scratch=True).image_size == 32


def test_few_images_get_a_small_batch_and_its_rate():
    settings = chosen(images=64)
    assert settings.batch_size == 16
    assert settings.lr == pytest.approx(2.5e-4)
    assert chosen(images=1).batch_size == 1


def test_what_is_given_is_used():
    given = {"epochs": 3, "image_size": 96, "batch_size": 7, "lr": 0.1, "layer_decay": 1.0, "ema": False, "amp": True}
    settings = chosen({**given, "patience": 0, "workers": 0})
    found = {name: getattr(settings, name) for name in given if name != "ema"}
    assert found == {name: value for name, value in given.items() if name != "ema"}
    assert settings.ema_decay is None
    assert not settings.reasons
    assert all(line.startswith("--") and line.endswith("given") for line in settings.summary())


def test_every_choice_has_a_reason():
    settings = chosen()
    lines = settings.summary()
    assert len(lines) == 9
    assert not [line for line in lines if line.endswith("given")]
    assert settings.ema_decay == pytest.approx(1 - 10 / 1600)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epochs": 0}, r"epochs must be an integer >= 1, got 0"),
        ({"image_size": 8}, r"image_size must be an integer >= 16, got 8"),
        ({"lr": float("nan")}, r"lr must be positive, got nan"),
        ({"layer_decay": 1.5}, r"layer_decay must be in \(0, 1\], got 1.5"),
        ({"probe": "liner"}, r"Unknown probe 'liner'. Did you mean 'linear'"),
    ],
)
def test_wrong_choices_are_refused(given: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Options(**given)
