"""Optimizer wrappers: accumulation, clipping, mixed precision, skipped steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from attnzoo.zoo.training import AmpOptimWrapper, OptimWrapper, OptimWrapperConstructor


def wrapped(kind=OptimWrapper, lr=0.1, **arguments) -> tuple[nn.Linear, Any]:
    torch.manual_seed(0)
    model = nn.Linear(3, 1).to(torch.float64 if kind is OptimWrapper else torch.float32)
    return model, kind(torch.optim.SGD(model.parameters(), lr=lr), **arguments)


def losses(model, count):
    torch.manual_seed(1)
    inputs = torch.randn(count, 2, 3, dtype=model.weight.dtype)
    return [lambda x=x: model(x).square().mean() for x in inputs]


@pytest.mark.parametrize("length", [4, 5])
def test_accumulation_is_the_mean_over_a_window_and_ends_with_the_epoch(length):
    model, wrapper = wrapped(accumulative_counts=2)
    expected = nn.Linear(3, 1, dtype=torch.float64)
    expected.load_state_dict(model.state_dict())
    optimizer = torch.optim.SGD(expected.parameters(), lr=0.1)
    # Two epochs, to detect windows that extend into the next epoch.
    for _ in range(2):
        wrapper.start_epoch(length)
        ours, theirs = losses(model, length), losses(expected, length)
        steps = []
        for i, loss in enumerate(ours):
            wrapper.update_params(loss())
            steps.append(wrapper.stepped)
            window = theirs[i - i % 2 : i + 1]
            if steps[-1]:
                optimizer.zero_grad()
                torch.stack([loss() for loss in window]).mean().backward()
                optimizer.step()
        assert steps == [i % 2 == 1 or i == length - 1 for i in range(length)]
        torch.testing.assert_close(model.weight, expected.weight, rtol=1e-12, atol=0)


def test_a_wrapper_without_epochs_accumulates_plainly():
    model, wrapper = wrapped(accumulative_counts=2)
    for i, loss in enumerate(losses(model, 4)):
        wrapper.update_params(loss())
        assert wrapper.stepped == (i % 2 == 1)


@pytest.mark.parametrize("nonfinite", [0, 1])
def test_a_batch_that_is_not_finite_skips_its_own_window_only(nonfinite):
    model, wrapper = wrapped(accumulative_counts=2)
    before = model.weight.detach().clone()
    for i, loss in enumerate(losses(model, 2)):
        wrapper.update_params(loss() * (torch.nan if i == nonfinite else 1.0))
        assert wrapper.nonfinite == ("loss" if i == nonfinite else None)
    assert torch.equal(model.weight, before)
    clean, expected = wrapped(accumulative_counts=2)
    for ours, theirs in zip(losses(model, 2), losses(clean, 2), strict=True):
        wrapper.update_params(ours())
        expected.update_params(theirs())
    assert torch.equal(model.weight, clean.weight)
    assert not torch.equal(model.weight, before)


def test_clipping_by_norm_and_by_value():
    for clip, size in (({"max_norm": 0.5}, None), ({"type": "value", "clip_value": 0.01}, 0.01), (None, None)):
        model, wrapper = wrapped(lr=1.0, clip_grad=clip)
        before = nn.utils.parameters_to_vector(model.parameters()).clone()
        (100 * losses(model, 1)[0]()).backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        wrapper.zero_grad()
        wrapper.update_params(100 * losses(model, 1)[0]())
        step = before - nn.utils.parameters_to_vector(model.parameters())
        if clip is None:
            torch.testing.assert_close(step, gradient)
        elif size is None:
            torch.testing.assert_close(step, gradient * 0.5 / gradient.norm(), rtol=1e-5, atol=0)
        else:
            torch.testing.assert_close(step, gradient.clamp(-size, size))


def test_adaptive_clipping_keeps_rows_under_a_part_of_their_norm():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)).double()
    with torch.no_grad():
        next(model.parameters())[1] = 0
    names, parameters = zip(*model.named_parameters(), strict=True)
    clip = {"type": "adaptive", "clip_factor": 0.1, "eps": 0.01, "exclude": ("1.bias",)}
    wrapper = OptimWrapperConstructor({"optimizer": {"type": "SGD", "lr": 1.0}, "clip_grad": clip})(model)
    before = [parameter.detach().clone() for parameter in parameters]
    loss = 100 * model(torch.randn(5, 4, dtype=torch.float64)).square().sum()
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
    wrapper.update_params(loss)
    for name, parameter, old, gradient in zip(names, parameters, before, gradients, strict=True):
        rows, steps = gradient.reshape(-1, *gradient.shape[1:]), (old - parameter).detach()
        if name == "1.bias":
            torch.testing.assert_close(steps, gradient)
            continue
        dims = tuple(range(1, rows.ndim)) or (0,)
        most = 0.1 * old.norm(dim=dims, keepdim=True).clamp(min=0.01)
        norm = rows.norm(dim=dims, keepdim=True)
        torch.testing.assert_close(steps, rows * torch.where(norm > most, most / norm, torch.ones_like(norm)))
        assert (norm > most).any(), name


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        ({"type": "adaptive", "eps": 1e-3}, "needs the key 'clip_factor'"),
        ({"max_norn": 1.0}, "Did you mean 'max_norm'"),
        ({"type": "valeu", "clip_value": 1}, "Did you mean 'value'"),
        ({"norm_type": 2.0}, "needs the key 'max_norm'"),
    ],
)
def test_wrong_clipping_is_named(clip, message):
    with pytest.raises(ValueError, match=message):
        wrapped(clip_grad=clip)


def test_bfloat16_on_a_cpu():
    model, wrapper = wrapped(AmpOptimWrapper)
    assert wrapper.dtype is torch.bfloat16
    with wrapper.optim_context(model):
        output = model(torch.ones(1, 3))
        assert output.dtype is torch.bfloat16
    before = model.weight.detach().clone()
    wrapper.update_params(output.float().sum())
    assert model.weight.dtype is torch.float32
    assert not torch.equal(model.weight, before)
    assert "loss_scaler" not in wrapper.state_dict()
    with pytest.raises(ValueError, match="float16 needs a GPU"):
        wrapped(AmpOptimWrapper, dtype="float16")
    with pytest.raises(ValueError, match="Did you mean 'bfloat16'"):
        wrapped(AmpOptimWrapper, dtype="bf16oat")


@pytest.fixture
def scaling():
    """Returns a wrapper that scales the loss, as with float16 on a GPU; the arithmetic is the same on a CPU."""
    model, wrapper = wrapped(AmpOptimWrapper, lr=1e-3)
    wrapper.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120, growth_interval=10**6)
    return model, wrapper


def test_overflowing_gradients_halve_the_scale_and_do_not_count(scaling):
    model, wrapper = scaling
    before = model.weight.detach().clone()
    # 1e10 * 2^120 exceeds float32.
    wrapper.update_params((model(torch.ones(1, 3)) * 1e10).sum())
    assert (wrapper.stepped, wrapper.nonfinite) == (False, None)
    assert wrapper.scaler.get_scale() == 2.0**119
    assert torch.equal(model.weight, before)
    wrapper.update_params(model(torch.ones(1, 3)).sum())
    assert wrapper.stepped
    torch.testing.assert_close(model.weight, before - 1e-3)


def test_gradients_that_no_scale_saves_count(scaling):
    model, wrapper = scaling
    wrapper.scaler = torch.amp.GradScaler("cpu", init_scale=1.5, growth_interval=10**6)
    model.weight.register_hook(lambda gradient: gradient * torch.nan)
    wrapper.update_params(model(torch.ones(1, 3)).sum())
    assert wrapper.nonfinite == "gradient"
    assert not wrapper.stepped


def test_a_loss_that_is_not_finite_leaves_the_scale_alone(scaling):
    model, wrapper = scaling
    wrapper.update_params(model(torch.ones(1, 3)).sum() * torch.nan)
    assert wrapper.nonfinite == "loss"
    assert wrapper.scaler.get_scale() == 2.0**120
    assert wrapper.scaler._per_optimizer_states == {}


def test_the_scale_is_saved_and_restored(scaling):
    _, wrapper = scaling
    state = wrapper.state_dict()
    _, other = wrapped(AmpOptimWrapper)
    other.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    other.load_state_dict(state)
    assert other.scaler.get_scale() == 2.0**120


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_mixed_precision_on_a_gpu(dtype):
    torch.manual_seed(0)
    model = nn.Linear(64, 1).cuda()
    wrapper = AmpOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), dtype=dtype, clip_grad={"max_norm": 1.0})
    x, y = torch.randn(32, 64, device="cuda"), torch.randn(32, 1, device="cuda")
    values = []
    for _ in range(30):
        with wrapper.optim_context(model):
            output = model(x)
            assert output.dtype is getattr(torch, dtype)
            loss = (output.float() - y).square().mean()
        wrapper.update_params(loss)
        values.append(loss.item())
    assert values[-1] < values[0]
    assert wrapper.scaler.is_enabled() == (dtype == "float16")
