"""Windows, shifted windows and halo attention against the models' own ways of computing them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.layers.halo_attn import HaloAttn

from attnzoo.kernels import exportable_operators, halo_attention_2d, use_backend, window_attention_2d


def _swin(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    window: tuple[int, int],
    shift: tuple[int, int],
    rpb: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """Computes attention as Swin does: roll the map, divide it into windows, and mask pairs that were not adjacent."""
    height, width = query.shape[1:3]
    rows, cols = window

    def cut(tensor: torch.Tensor) -> torch.Tensor:
        """Reshapes (B, H, W, ...) to (B, windows, positions, ...)."""
        tensor = tensor.unflatten(2, (width // cols, cols)).unflatten(1, (height // rows, rows)).transpose(2, 3)
        return tensor.flatten(3, 4).flatten(1, 2)

    regions = torch.zeros(1, height, width)
    slices = [
        (slice(0, -size), slice(-size, -by), slice(-by, None)) if by else (slice(None),)
        for size, by in zip(window, shift, strict=True)
    ]
    for number, (row, col) in enumerate((row, col) for row in slices[0] for col in slices[1]):
        regions[:, row, col] = number
    regions = cut(regions)
    apart = regions[..., :, None] != regions[..., None, :]
    place = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij")).flatten(1)
    index = place[:, :, None] - place[:, None, :] + torch.tensor([rows - 1, cols - 1])[:, None, None]
    bias = rpb[:, index[0], index[1]]

    rolled = [cut(one.roll((-shift[0], -shift[1]), (1, 2))).transpose(2, 3) for one in (query, key, value)]
    scores = (rolled[0] * scale) @ rolled[1].mT + bias
    out = scores.masked_fill(apart[:, :, None], -torch.inf).softmax(-1) @ rolled[2]
    out = out.transpose(2, 3).unflatten(2, window).unflatten(1, (height // rows, width // cols)).transpose(2, 3)
    return out.flatten(3, 4).flatten(1, 2).roll(shift, (1, 2))


@pytest.mark.parametrize("backend", ["torch", "reference", "exportable"])
@pytest.mark.parametrize("shift", [(0, 0), (2, 1), (1, 2)])
def test_shifted_windows_match_swin(shift, backend):
    window, scale = (4, 3), 0.4
    operands = [torch.randn(2, 8, 12, 3, dim, dtype=torch.float64, requires_grad=True) for dim in (6, 6, 5)]
    rpb = torch.randn(3, 7, 5, dtype=torch.float64, requires_grad=True)
    query, key, value = operands
    with exportable_operators() if backend == "exportable" else use_backend(backend):
        actual = window_attention_2d(query, key, value, window, shift, rpb, scale)
    expected = _swin(query, key, value, window, shift, rpb, scale)
    upstream = torch.randn_like(expected)
    results = [(out, *torch.autograd.grad(out, [*operands, rpb], upstream)) for out in (actual, expected)]
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def _halo_layer(module: Any, inputs: torch.Tensor) -> torch.Tensor:
    """Computes a layer of timm with `halo_attention_2d` in place of the layer's own attention."""
    heads, dim, dim_v = module.num_heads, module.dim_head_qk, module.dim_head_v
    query = module.q(inputs).permute(0, 2, 3, 1).unflatten(-1, (heads, dim))
    key, value = module.kv(inputs).permute(0, 2, 3, 1).unflatten(-1, (heads, dim + dim_v)).split((dim, dim_v), dim=-1)
    embeddings = module.pos_embed.height_rel, module.pos_embed.width_rel
    out = halo_attention_2d(
        query, key, value, module.block_size, module.halo_size, module.block_stride, *embeddings, scale=module.scale
    )
    return out.flatten(3).permute(0, 3, 1, 2)


@pytest.mark.parametrize("backend", ["torch", "reference", "exportable"])
@pytest.mark.parametrize(("halo", "stride"), [(2, 1), (3, 1), (2, 2), (3, 2)])
def test_halo_attention_matches_timm(halo, stride, backend):
    torch.manual_seed(0)
    module = HaloAttn(12, 20, stride=stride, num_heads=2, dim_head=8, block_size=8, halo_size=halo).double()
    inputs = torch.randn(2, 12, 16, 24, dtype=torch.float64, requires_grad=True)
    wanted = [inputs, *module.parameters()]
    expected = module(inputs)
    with exportable_operators() if backend == "exportable" else use_backend(backend):
        actual = _halo_layer(module, inputs)
    upstream = torch.randn_like(expected)
    results = [(out, *torch.autograd.grad(out, wanted, upstream)) for out in (actual, expected)]
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("mask_halo", [False, True])
@pytest.mark.parametrize(("height", "width", "stride"), [(7, 9, 1), (5, 13, 2), (3, 4, 1)])
def test_maps_of_any_size(height, width, stride, mask_halo):
    """Compares cut blocks with the docstring's formula, computed query by query."""
    block, halo = 4, 2
    window, places = block + 2 * halo, block // stride
    query = torch.randn(1, -(-height // stride), -(-width // stride), 2, 3)
    key, value = torch.randn(1, height, width, 2, 3), torch.randn(1, height, width, 2, 5)
    embeddings = torch.randn(2, 2 * window - 1, 3)
    around = (0, 0, 0, 0, halo, halo, halo, halo)
    keys, values = (torch.nn.functional.pad(one, around) for one in (key, value))
    expected = torch.empty(1, *query.shape[1:4], 5)
    for row in range(query.shape[1]):
        for col in range(query.shape[2]):
            begins = [place // places * block - halo for place in (row, col)]
            seen = [
                [at for at in range(begin, begin + window) if (0 if mask_halo else -halo) <= at < length + halo]
                for begin, length in zip(begins, (height, width), strict=True)
            ]
            if mask_halo:
                seen = [[at for at in one if at < length] for one, length in zip(seen, (height, width), strict=True)]
            one = query[0, row, col]
            scores = torch.einsum(
                "hd,yxhd->hyx", one, keys[0][[at + halo for at in seen[0]]][:, [at + halo for at in seen[1]]]
            )
            scores = scores * 3**-0.5
            offsets = [
                torch.tensor([at - begin - place % places + window - 1 for at in ats])
                for ats, begin, place in zip(seen, begins, (row, col), strict=True)
            ]
            scores = scores + (one @ embeddings[0][offsets[0]].mT)[:, :, None]
            scores = scores + (one @ embeddings[1][offsets[1]].mT)[:, None, :]
            weights = scores.flatten(1).softmax(-1).view_as(scores)
            seen_values = values[0][[at + halo for at in seen[0]]][:, [at + halo for at in seen[1]]]
            expected[0, row, col] = torch.einsum("hyx,yxhd->hd", weights, seen_values)
    for backend in ("auto", "reference"):
        actual = halo_attention_2d(
            query, key, value, block, halo, stride, embeddings[0], embeddings[1], mask_halo, backend=backend
        )
        torch.testing.assert_close(actual, expected)


def test_unused_embeddings_get_no_gradient_and_one_axis_is_enough():
    query = torch.randn(1, 8, 8, 2, 4)
    embedding = torch.randn(2 * 8 - 1, 4, requires_grad=True)
    out = halo_attention_2d(query, query, query, 4, 2, col_embedding=embedding)
    (gradient,) = torch.autograd.grad(out.sin().sum(), embedding)
    assert not gradient[:4].any()
    assert gradient[4:].any(dim=1).all()
    without = halo_attention_2d(query, query, query, 4, 2)
    torch.testing.assert_close(
        halo_attention_2d(
            query, query, query, 4, 2, col_embedding=torch.zeros(15, 4), row_embedding=torch.zeros(15, 4)
        ),
        without,
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_operands_take_float32_tables(dtype):
    query = torch.randn(1, 8, 8, 2, 4).to(dtype)
    rpb, embedding = torch.randn(2, 7, 7), torch.randn(11, 4)
    assert window_attention_2d(query, query, query, 4, 1, rpb).dtype == dtype
    assert halo_attention_2d(query, query, query, 4, 1, 1, embedding, embedding).dtype == dtype
    with torch.autocast("cpu", dtype=torch.bfloat16):
        full = query.float()
        out = halo_attention_2d(full, full, full, 4, 1, 1, embedding, embedding)
    assert out.dtype == torch.bfloat16
