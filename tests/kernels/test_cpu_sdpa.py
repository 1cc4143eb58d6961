"""PyTorch's fused attention for CPUs and its wrong results; all operations on operands with NaN and inf."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attnzoo.kernels import cpu_sdpa, halo_attention_2d, neighborhood_attention_2d, routed_attention_2d
from attnzoo.kernels import window_attention_2d as window


def _draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_gradients_are_those_of_the_result():
    operands = [_draw(2, 3, 5, 4).double().requires_grad_() for _ in range(3)]
    bias = _draw(1, 3, 5, 5).double()
    expected = torch.softmax(0.3 * operands[0] @ operands[1].mT + bias, -1) @ operands[2]
    query, key, value = (one.detach() for one in operands)
    out, lse = cpu_sdpa.attend(query, key, value, bias, 0.3)
    torch.testing.assert_close(out, expected)
    upstream = _draw(2, 3, 5, 4).double()
    gradients = cpu_sdpa.differentiate(upstream, (query, key, value), out, lse, bias, 0.3)
    for gradient, wanted in zip(gradients, torch.autograd.grad(expected, operands, upstream), strict=True):
        torch.testing.assert_close(gradient, wanted)


@pytest.mark.parametrize("keys", [1, 3, 7, 8, 9, 20])
@pytest.mark.parametrize("score", [float("nan"), -float("inf")])
def test_queries_without_a_softmax_are_nan_or_lost(keys, score):
    query, key = torch.ones(1, 1, 4, 2), torch.ones(1, 1, keys, 2)
    query[0, 0, 1] = score
    out, lse = cpu_sdpa.attend(query, key, key, None, 1.0)
    assert cpu_sdpa.has_lost_queries(out, lse) or not out[0, 0, 1].isfinite().any()
    out, lse = cpu_sdpa.attend(torch.ones(1, 1, 4, 2), key, key, None, 1.0)
    assert not cpu_sdpa.has_lost_queries(out, lse)


def test_a_log_sum_exp_of_zero_is_no_proof():
    """One key with a score of 0 has it, too."""
    query, key = torch.zeros(1, 1, 4, 2), torch.ones(1, 1, 1, 2)
    out, lse = cpu_sdpa.attend(query, key, key, None, 1.0)
    assert (lse == 0).all()
    assert not cpu_sdpa.has_lost_queries(out, lse)


_ROUTES = torch.tensor([[[0, 1], [1, 2], [3, 0], [3, 3]]])
_CALLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "windows": (window, {"window_size": 3}),
    "shifted windows": (window, {"window_size": 3, "shift_size": 1}),
    "windows with a bias": (window, {"window_size": 2, "rpb": _draw(1, 3, 3)}),
    "one window": (window, {"window_size": 6}),
    "neighborhoods": (neighborhood_attention_2d, {"kernel_size": 2}),
    "neighborhoods with a bias": (neighborhood_attention_2d, {"kernel_size": 3, "rpb": _draw(1, 5, 5)}),
    "dilated neighborhoods": (neighborhood_attention_2d, {"kernel_size": 3, "dilation": 2}),
    "causal neighborhoods": (neighborhood_attention_2d, {"kernel_size": 3, "is_causal": True}),
    "additional keys": (
        neighborhood_attention_2d,
        {"kernel_size": 2, "additional_keys": _draw(1, 2, 1, 4), "additional_values": _draw(1, 2, 1, 4)},
    ),
    "halo": (halo_attention_2d, {"block_size": 2, "halo_size": 1, "row_embedding": _draw(7, 4)}),
    "masked halo": (halo_attention_2d, {"block_size": 1, "halo_size": 1, "mask_halo": True}),
    "routes": (routed_attention_2d, {"routes": _ROUTES, "num_regions": 2}),
    "routes under a mask": (routed_attention_2d, {"routes": torch.tensor([[[0, 4, 1]] * 9]), "num_regions": 3}),
    "routes to tiny regions": (routed_attention_2d, {"routes": torch.arange(36)[None, :, None], "num_regions": 6}),
}


@pytest.mark.parametrize("amount", ["element", "all"])
@pytest.mark.parametrize(
    "bad", [float("nan"), *(pytest.param(sign * float("inf"), marks=pytest.mark.slow) for sign in (1, -1))]
)
@pytest.mark.parametrize("name", ["query", "key", "value"])
@pytest.mark.parametrize("call", _CALLS.values(), ids=_CALLS)
def test_what_is_not_a_number_comes_out_as_such(call, name, bad, amount):
    """A query that sees such an operand must not look like a number. NaN may also reach others in the same tile."""
    function, arguments = call
    operands = {one: _draw(1, 6, 6, 1, 4).roll(place) for place, one in enumerate(("query", "key", "value"))}

    def run(backend: str) -> torch.Tensor:
        return function(**{key: one.clone() for key, one in operands.items()}, **arguments, backend=backend)

    clean = run("torch")
    if amount == "all":
        operands[name].fill_(bad)
    else:
        # Queries that see the position, found by what a change of the values there changes.
        moved = {**operands, "value": operands["value"].clone()}
        moved["value"][0, 2, 3] += 1
        seen = (function(**moved, **arguments, backend="reference") != run("reference")).any(-1)
        operands[name][0, 2, 3] = bad
    actual, expected = run("torch"), run("reference")
    undefined = ~expected.isfinite()
    if name == "value" and amount == "element":
        undefined &= seen[..., None]  # the definition multiplies hidden values by 0, which is NaN as well
    assert undefined.any()
    assert not actual[undefined].isfinite().any()
    finite = actual.isfinite()
    if amount == "element":
        torch.testing.assert_close(actual[finite], (expected if name == "key" else clean)[finite])


@pytest.mark.parametrize("name", ["query", "key"])
@pytest.mark.parametrize("size", [2, 3])
def test_gradients_of_what_is_not_a_number_are_not_numbers(name, size):
    operands: dict[str, Any] = {one: _draw(1, 6, 6, 1, 4).requires_grad_() for one in ("query", "key", "value")}
    operands[name].data.fill_(float("nan"))
    for gradient in torch.autograd.grad(window(**operands, window_size=size).sum(), list(operands.values())):
        assert gradient.isnan().all()


def test_scores_that_overflow_are_not_lost():
    query, key = torch.full((1, 2, 2, 1, 4), 1e30), torch.full((1, 2, 2, 1, 4), -1e30)
    assert window(query, key, key, 2).isnan().all()
