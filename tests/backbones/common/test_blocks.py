"""Stages, the transformer block and patch embeddings."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models.swin_transformer import PatchMerging as TimmPatchMerging
from torch import nn

from attnzoo.backbones.common import blocks
from attnzoo.backbones.common.blocks import PatchMerging, PatchStem, Stage, TransformerBlock, drop_path_rates


def block(**kwargs: Any) -> TransformerBlock:
    torch.manual_seed(0)
    made = TransformerBlock(8, nn.Linear(8, 8), 2.0, **kwargs).eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made


def by_definition(made: TransformerBlock, x: torch.Tensor) -> torch.Tensor:
    x = x + made.ls1(made.attn(made.norm1(x)))
    return x + made.ls2(made.mlp.fc2(nn.functional.gelu(made.mlp.fc1(made.norm2(x)))))


@pytest.fixture
def chunked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The widths of MLPs that were computed in chunks."""
    widths: list[int] = []
    original = blocks.add_in_chunks_

    def spy(x: torch.Tensor, branch: Any, width: int) -> torch.Tensor:
        widths.append(width)
        return original(x, branch, width)

    monkeypatch.setattr(blocks, "add_in_chunks_", spy)
    return widths


class TestTransformerBlock:
    @pytest.mark.parametrize("layer_scale", [None, 0.5])
    @pytest.mark.parametrize("shape", [(2, 5, 3, 8), (2, 7, 8)])
    def test_definition(self, layer_scale: float | None, shape: tuple[int, ...], chunked: list[int]):
        made, x = block(layer_scale=layer_scale), torch.randn(shape)
        expected = by_definition(made, x)
        torch.testing.assert_close(made(x), expected)
        assert not chunked
        given = x.clone()
        with torch.no_grad():
            torch.testing.assert_close(made(x), expected)
        assert chunked == [16]
        assert torch.equal(x, given)

    def test_modified_mlps_are_called_on_complete_maps(self, chunked: list[int]):
        made, x, seen = block(), torch.randn(2, 5, 3, 8), []
        handle = made.mlp.fc2.register_forward_hook(lambda module, args, out: seen.append(out.shape))
        with torch.no_grad():
            made(x)
            handle.remove()
            made.mlp.set_submodule("fc1", nn.Sequential(made.mlp.fc1))
            torch.testing.assert_close(made(x), by_definition(made, x))
        assert seen == [(2, 5, 3, 8)]
        assert not chunked

    def test_further_arguments_reach_the_attention(self):
        class Attention(nn.Module):
            def forward(self, x: torch.Tensor, factor: float) -> torch.Tensor:
                return factor * x

        made = TransformerBlock(8, Attention()).eval()
        x = torch.randn(1, 2, 2, 8)
        assert not torch.equal(made(x, 0.0), made(x, 1.0))

    def test_names_without_layer_scale(self):
        assert not [name for name in block().state_dict() if "ls" in name]
        assert "ls2.gamma" in block(layer_scale=0.1).state_dict()

    def test_its_old_name(self):
        with pytest.warns(DeprecationWarning, match="Block is now called TransformerBlock"):
            assert blocks.Block is TransformerBlock


def test_drop_path_rates_grow_over_all_blocks():
    assert drop_path_rates(0.4, (2, 3)) == [[0.0, 0.1], [0.2, pytest.approx(0.3), 0.4]]
    assert drop_path_rates(0.4, (1,)) == [[0.0]]


def test_stage_checkpoints_its_blocks(monkeypatch: pytest.MonkeyPatch):
    stage = Stage(nn.Linear(3, 4), [nn.Linear(4, 4), nn.Linear(4, 4)])
    calls: list[nn.Module] = []
    monkeypatch.setattr(blocks, "checkpoint", lambda module, x: calls.append(module) or module(x))
    x = torch.randn(2, 3)
    expected = stage(x)
    assert not calls
    stage.grad_checkpointing = True
    assert torch.equal(stage(x), expected)
    assert calls == list(stage.blocks)
    with torch.no_grad():
        stage(x)
    assert len(calls) == 2


@pytest.mark.parametrize("size", [(8, 8), (9, 15)])
def test_patch_stem_pads(size: tuple[int, int]):
    stem = PatchStem(3, 8, 4, 1e-5)
    x = torch.randn(1, 3, *size)
    padded = nn.functional.pad(x, (0, -size[1] % 4, 0, -size[0] % 4))
    torch.testing.assert_close(stem(x), stem.norm(stem.proj(padded).permute(0, 2, 3, 1)))


@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
def test_patch_merging_is_timms(size: tuple[int, int]):
    own, other = PatchMerging(4, 8, 1e-5), TimmPatchMerging(4, 8)
    other.load_state_dict(own.state_dict())
    x = torch.randn(2, *size, 4)
    with torch.no_grad():
        torch.testing.assert_close(own(x), other(x))
