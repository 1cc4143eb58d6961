"""Attention maps are what the models compute: probabilities that reproduce the output of their own calls."""

from __future__ import annotations

import pytest
import torch

from attnzoo import create_model
from attnzoo.zoo.analysis.attention_maps import record_attention
from support.attention_models import MODELS, NAT, build, image

CASES = [(kind, stage, block) for kind, (_, _, blocks) in MODELS.items() for stage, block in blocks]


@pytest.mark.parametrize(("kind", "stage", "block"), CASES)
def test_probabilities_give_the_models_own_output(kind: str, stage: int, block: int):
    recorded = record_attention(build(kind), image(), stage, block)
    height, width = recorded.height, recorded.width
    uniform = True
    for y, x in ((0, 0), (0, width - 1), (height // 2, width // 3), (height - 1, width - 1)):
        attention = recorded.query_attention(y, x)
        torch.testing.assert_close(attention.probs.sum((1, 2)) + attention.off_map, torch.ones(len(attention.off_map)))
        assert (attention.probs >= 0).all()
        assert (attention.probs[:, ~attention.mask] == 0).all()
        assert attention.recorded_output.abs().max() > 1e-3
        torch.testing.assert_close(attention.output, attention.recorded_output, rtol=0, atol=1e-5)
        uniform &= bool((attention.probs[:, attention.mask].std() < 1e-3).all())
    assert not uniform


def test_feature_maps_and_wrong_places():
    model = create_model("nat_mini", features_only=True, **NAT)
    assert record_attention(model, image(), 1, -1).query_attention(1, 1).probs.shape[0] == 2
    with pytest.raises(ValueError, match=r"image must be a single image .* got \(2, 3, 32, 32\)"):
        record_attention(model, torch.randn(2, 3, 32, 32), 0, 0)
    recorded = record_attention(create_model("metaformer_micro"), image(), 0, 0)
    with pytest.raises(ValueError, match="no attention probabilities"):
        recorded.query_attention(0, 0)
    with pytest.raises(ValueError, match=r"inside the map of .* got row 99, column 0"):
        record_attention(model, image(), 0, 0).query_attention(99, 0)
