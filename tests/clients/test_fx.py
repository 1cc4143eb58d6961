"""torch.fx traces every family, for images of any size."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.feature_extraction import create_feature_extractor

from support.slow import slow_except
from support.small_backbones import MODELS, OTHER_BODIES, small_backbone, small_images

MIXERS = ("agent", "biformer", "dilated_neighborhood", "dual", "eca", "full", "halo", "identity", "lka", "pool")


def assert_traced(model: torch.nn.Module) -> None:
    traced = torch.fx.symbolic_trace(model)
    for size in ((37, 32), (32, 44)):
        x = small_images(2, *size)
        with torch.no_grad():
            torch.testing.assert_close(traced(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [*MODELS, *slow_except(OTHER_BODIES, ())])
def test_traced_models_equal_eager_ones(name: str):
    assert_traced(small_backbone(name))


@pytest.mark.slow
@pytest.mark.parametrize("mixer", MIXERS)
def test_traced_mixers_equal_eager_ones(mixer: str):
    assert_traced(small_backbone("metaformer", mixer=mixer))


@pytest.mark.filterwarnings("ignore:.*nodes obtained by tracing")
@pytest.mark.parametrize("name", list(MODELS))
def test_feature_extractors_return_the_stages(name: str):
    model, x = small_backbone(name, drop_path_rate=0.1), small_images()
    stages = [stage["module"] for stage in model.feature_info]
    extractor = create_feature_extractor(model, stages).eval()
    with torch.no_grad():
        found = extractor(x)
        expected = model.forward_intermediates(x, intermediates_only=True)
    assert list(found) == stages
    for stage, feature_map in zip(found.values(), expected, strict=True):
        if stage.ndim == 3:  # tokens, the class token first
            stage = stage[:, 1:].transpose(1, 2).unflatten(2, feature_map.shape[2:])
        elif stage.shape != feature_map.shape:
            stage = stage.permute(0, 3, 1, 2)
        torch.testing.assert_close(stage, feature_map, rtol=1e-4, atol=1e-5)
    extractor.train()(x)[stages[-1]].sum().backward()


def test_graphs_check_sizes():
    traced = torch.fx.symbolic_trace(small_backbone("biformer"))
    with pytest.raises(ValueError, match="at least 8 pixels"):
        traced(small_images(1, 4, 32))


def test_feature_maps():
    model, x = small_backbone("agent_swin", num_classes=None, features_only=True, output_norms=True), small_images()
    with torch.no_grad():
        torch.testing.assert_close(torch.fx.symbolic_trace(model)(x), model(x), rtol=1e-4, atol=1e-5)
