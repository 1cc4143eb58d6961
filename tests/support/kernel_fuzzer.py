"""Calls the public operations of attnzoo.kernels with random arguments, right and wrong.

`PYTHONPATH=tests python -m support.kernel_fuzzer SEED CALLS` prints each call that neither equals the definition nor
raises an error that names an argument, and then how many calls there were of each kind. A process of its own shows
crashes; the last call is in the file that KERNEL_FUZZER_LOG names.
"""

from __future__ import annotations

import collections
import inspect
import os
import random
import re
import sys
import traceback
import warnings
from typing import Any

import torch

from attnzoo import kernels

_DTYPES = (torch.float64, torch.float32, torch.float32, torch.float16, torch.bfloat16)
# In half precision the backward pass reads the rounded output.
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 0.15}
_WORDS = ("keys", "queries", "height", "width")
_WRONG = (0, -1, -7, 10**9, 2**40, 2**63, 10**30, True, False, 2.0, float("nan"), "3", "", None, (), (2,), (2, 2, 2))
_WRONG += (10**400, float("inf"))
_WRONG += ([3, "a"], {}, b"2", 1j, torch.tensor(2), torch.tensor([1.0, 2.0]), (-1, 3), [2, 2], torch.float32, "auto")

Call = tuple[Any, dict[str, Any]]


class Fuzzer:
    """Draws calls.

    Args:
        seed: Seed of all calls.
    """

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.noise = torch.Generator().manual_seed(seed)

    def call(self) -> Call:
        """Draws a function and its arguments: right ones, of which none to two are changed."""
        make = self.draw.choice((self._neighborhoods, self._windows, self._halo, self._routes, self._routed))
        function, arguments = make()
        if function is not kernels.route_regions:
            arguments["backend"] = self.draw.choice(("auto", "torch"))
            if self.draw.random() < 0.3:
                arguments["scale"] = self.draw.choice((1, 0.5, -0.3, 0.0))
        for _ in range(self.draw.choice((0, 0, 1, 1, 1, 2))):
            self._change(function, arguments)
        return function, arguments

    def _tensor(self, *shape: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.randn(shape, generator=self.noise).to(dtype)

    def _operands(self, height: int, width: int, *, shared: bool = True) -> dict[str, Any]:
        dtype, batch = self.draw.choice(_DTYPES), self.draw.choice((0, 1, 1, 2))
        heads, group = self.draw.choice(((1, 1), (2, 1), (1, 2))) if shared else (2, 1)
        dim, dim_v = self.draw.randrange(1, 6), self.draw.randrange(1, 6)
        return {
            "query": self._tensor(batch, height, width, heads * group, dim, dtype=dtype),
            "key": self._tensor(batch, height, width, heads, dim, dtype=dtype),
            "value": self._tensor(batch, height, width, heads, dim_v, dtype=dtype),
        }

    def _bias(self, query: torch.Tensor, *shape: int) -> torch.Tensor:
        return self._tensor(*shape, dtype=self.draw.choice((query.dtype, query.dtype, torch.float32)))

    def _neighborhoods(self) -> Call:
        size, dilation = self.draw.randrange(2, 5), self.draw.randrange(1, 3)
        least = size * dilation
        arguments = self._operands(*(self.draw.randrange(least, least + 4) for _ in range(2)))
        arguments |= {"kernel_size": size, "dilation": dilation, "is_causal": self.draw.random() < 0.3}
        arguments |= {"stride": self.draw.randrange(1, size + 1), "return_lse": self.draw.random() < 0.3}
        query, value = arguments["query"], arguments["value"]
        if self.draw.random() < 0.4:
            arguments["rpb"] = self._bias(query, query.shape[3], 2 * size - 1, 2 * size - 1)
        if self.draw.random() < 0.3:
            batch, tokens = query.shape[0], self.draw.randrange(0, 3)
            for name, dim in (("additional_keys", query.shape[4]), ("additional_values", value.shape[4])):
                arguments[name] = self._tensor(batch, tokens, value.shape[3], dim, dtype=query.dtype)
        return kernels.neighborhood_attention_2d, arguments

    def _windows(self) -> Call:
        size = self.draw.randrange(1, 4)
        arguments = self._operands(*(size * self.draw.randrange(1, 4) for _ in range(2)))
        arguments |= {"window_size": size, "shift_size": self.draw.randrange(0, size)}
        if self.draw.random() < 0.4:
            query = arguments["query"]
            arguments["rpb"] = self._bias(query, query.shape[3], 2 * size - 1, 2 * size - 1)
        return kernels.window_attention_2d, arguments

    def _halo(self) -> Call:
        stride, halo = self.draw.choice((1, 1, 2)), self.draw.randrange(0, 3)
        size, height, width = stride * self.draw.randrange(1, 3), *(self.draw.randrange(1, 8) for _ in range(2))
        arguments = self._operands(height, width)
        arguments["query"] = arguments["query"][:, ::stride, ::stride]
        arguments |= {"block_size": size, "halo_size": halo, "query_stride": stride}
        arguments["mask_halo"] = self.draw.random() < 0.5
        for name in ("row_embedding", "col_embedding"):
            if self.draw.random() < 0.4:
                query = arguments["query"]
                arguments[name] = self._bias(query, 2 * (size + 2 * halo) - 1, query.shape[4])
        return kernels.halo_attention_2d, arguments

    def _routes(self) -> Call:
        rows, cols = (self.draw.randrange(1, 4) for _ in range(2))
        arguments = self._operands(*(side * self.draw.randrange(1, 4) for side in (rows, cols)), shared=False)
        del arguments["value"]
        return kernels.route_regions, arguments | {
            "num_regions": (rows, cols),
            "topk": self.draw.randrange(1, rows * cols + 1),
        }

    def _routed(self) -> Call:
        _, arguments = self._routes()
        query, regions = arguments["query"], arguments["num_regions"][0] * arguments["num_regions"][1]
        arguments["value"] = self._tensor(*query.shape[:4], self.draw.randrange(1, 6), dtype=query.dtype)
        shape = (query.shape[0], regions, arguments.pop("topk"))
        arguments["routes"] = torch.randint(0, regions, shape, generator=self.noise)
        return kernels.routed_attention_2d, arguments

    def _change(self, function: Any, arguments: dict[str, Any]) -> None:
        """Changes an argument, or adds one that has a default."""
        name = self.draw.choice(list(inspect.signature(function).parameters))
        value = arguments.get(name)
        if isinstance(value, torch.Tensor) and self.draw.random() < 0.85:
            change = self.draw.choice((self._reshaped, self._strided, self._strided, self._cast, self._damaged))
            arguments[name] = change(value)
        elif self.draw.random() < 0.1:
            for key, tensor in arguments.items():
                arguments[key] = tensor.to("meta") if isinstance(tensor, torch.Tensor) else tensor
        else:
            # A scale of that size is allowed, and overflows.
            wrong = [
                one
                for one in _WRONG
                if name != "scale" or not isinstance(one, int) or abs(one) < 10**9 or one == 10**400
            ]
            arguments[name] = self.draw.choice(wrong)

    def _reshaped(self, tensor: torch.Tensor) -> torch.Tensor:
        axis = self.draw.randrange(tensor.ndim) if tensor.ndim else 0
        changes = [lambda: tensor[None], lambda: tensor.flatten(), lambda: tensor.new_zeros(())]
        if tensor.ndim:
            changes += [
                lambda: tensor.narrow(axis, 0, 0),
                lambda: torch.cat([tensor, tensor], axis),
                lambda: tensor.select(axis, 0) if tensor.shape[axis] else tensor,
                lambda: tensor.movedim(axis, 0),
            ]
        return self.draw.choice(changes)()

    def _strided(self, tensor: torch.Tensor) -> torch.Tensor:
        """Returns equal or broadcast values in another layout."""
        if tensor.ndim == 0:
            return tensor
        axis = self.draw.randrange(tensor.ndim)
        changes = [
            lambda: tensor.transpose(0, -1).contiguous().transpose(0, -1),
            lambda: torch.cat([tensor, tensor], axis).narrow(axis, 0, tensor.shape[axis]),
            lambda: torch.stack([tensor, tensor], -1)[..., 0],
            lambda: tensor.narrow(axis, 0, 1).expand(tensor.shape) if tensor.shape[axis] else tensor,
        ]
        return self.draw.choice(changes)()

    def _cast(self, tensor: torch.Tensor) -> torch.Tensor:
        kinds = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.bool)
        return tensor.to(self.draw.choice((*kinds, torch.complex64, "meta")))

    def _damaged(self, tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.numel() or tensor.device.type == "meta":
            return tensor
        tensor = tensor.clone()
        if tensor.is_floating_point():
            tensor.view(-1)[self.draw.randrange(tensor.numel())] = self.draw.choice(
                (float("nan"), float("inf"), -float("inf"))
            )
        elif tensor.dtype == torch.int64:
            tensor.view(-1)[self.draw.randrange(tensor.numel())] = self.draw.choice((-1, 10**6, 2**31 + 1, -(2**40)))
        return tensor


def check(function: Any, arguments: dict[str, Any], draw: random.Random) -> str:
    """Runs a call: "equal" or "raised"; otherwise raises an AssertionError."""
    names = [name for name, one in arguments.items() if isinstance(one, torch.Tensor) and one.is_floating_point()]
    trained = [name for name in names if draw.random() < 0.3] if function is not kernels.route_regions else []
    try:
        actual = _results(function, arguments, trained)
    except (ValueError, TypeError) as error:
        known = "|".join((*inspect.signature(function).parameters, *_WORDS))
        if not re.search(rf"\b({known})\b", str(error)):
            raise AssertionError(f"names no argument: {type(error).__name__}: {error}") from error
        return "raised"
    expected = _results(function, arguments | ({} if "backend" not in arguments else {"backend": "reference"}), trained)
    tolerance = max((_TOLERANCE.get(arguments[name].dtype, 0) for name in names), default=0)
    for one, other in zip(actual, expected, strict=True):
        assert one.shape == other.shape, f"shapes {tuple(one.shape)} and {tuple(other.shape)}"
        assert one.dtype == other.dtype, f"dtypes {one.dtype} and {other.dtype}"
        if one.device.type != "meta":
            # The definition spreads NaN of hidden values, and a tile to its other queries.
            both = one.isfinite() & other.isfinite()
            torch.testing.assert_close(one[both], other[both], rtol=tolerance, atol=tolerance)
            hides_nothing = all(bool(arguments[name].isfinite().all()) for name in names)
            assert not hides_nothing or (one.isfinite() == other.isfinite()).all(), "not finite"
    return "equal"


def _results(function: Any, arguments: dict[str, Any], trained: list[str]) -> list[torch.Tensor]:
    given = {name: one.detach().requires_grad_() if name in trained else one for name, one in arguments.items()}
    results = function(**given)
    results = list(results) if isinstance(results, tuple) else [results]
    if trained:
        loss = torch.stack([one.float().square().sum() for one in results]).sum()
        gradients = torch.autograd.grad(loss, [given[name] for name in trained], allow_unused=True)
        results += [torch.zeros(()) if one is None else one for one in gradients]
    return results


def described(function: Any, arguments: dict[str, Any]) -> str:
    """Describes a call."""

    def short(one: Any) -> str:
        if isinstance(one, torch.Tensor):
            return f"{tuple(one.shape)} {one.dtype} {one.device} strides {one.stride()}"
        return repr(one)

    return f"{function.__name__}({', '.join(f'{name}={short(one)}' for name, one in arguments.items())})"


def main(seed: int, calls: int) -> int:
    """Runs calls and returns how many were wrong."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    fuzzer, outcomes = Fuzzer(seed), collections.Counter()
    log = os.environ.get("KERNEL_FUZZER_LOG", os.devnull)
    for number in range(calls):
        function, arguments = fuzzer.call()
        with open(log, "w") as file:
            file.write(f"seed {seed}, call {number}: {described(function, arguments)}\n")
        try:
            outcomes[check(function, arguments, fuzzer.draw)] += 1
        except Exception as error:
            outcomes["wrong"] += 1
            place = traceback.extract_tb(error.__traceback__)[-1]
            print(f"seed {seed}, call {number}: {described(function, arguments)}")
            print(f"    {type(error).__name__}: {error} [{place.filename}:{place.lineno}]".rstrip()[:600])
    print(f"{calls} calls: {outcomes['equal']} equal, {outcomes['raised']} raised, {outcomes['wrong']} wrong")
    return outcomes["wrong"]


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])) > 0)
