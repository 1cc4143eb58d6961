"""Attention maps: which keys a query attends to, and how strongly, from the operands of the model's own calls.

The attention calls inside a block are recorded as they happen: the zoo's operators (neighborhoods, windows, halos,
routed regions) and PyTorch's scaled dot-product attention. The model's code is not inspected, so this works for every
token mixer that calls one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from ...deprecated_paths import renamed_names
from .attention_calls import (
    AgentAttentionCall,
    AttentionCall,
    DenseAttentionCall,
    QueryAttention,
    RangedAttentionCall,
    RoutedAttentionCall,
)
from .blocks import find_block, input_size


@dataclass(frozen=True)
class RecordedAttention:
    """The attention calls of one block for one image.

    Attributes:
        calls: Calls in order.
        height: Height of the block's map in positions, without padding.
        width: Width of the block's map in positions, without padding.
        num_prefix_tokens: Number of tokens before those of the map.
    """

    calls: list[AttentionCall]
    height: int
    width: int
    num_prefix_tokens: int = 0

    def query_attention(self, y: int, x: int) -> QueryAttention:
        """Computes the attention of the query at row `y` and column `x` of the block's map.

        The heads of several calls are concatenated.

        Raises:
            ValueError: The block has no attention probabilities, or the query is outside the map.
        """
        if not self.calls:
            raise ValueError("The block has no attention probabilities to show.")
        if not (0 <= y < self.height and 0 <= x < self.width):
            raise ValueError(
                f"The query must be inside the map of {self.height} x {self.width} positions, got row {y}, column {x}."
            )
        attentions = [self._call_attention(call, y, x) for call in self.calls]
        assert len({one.probs.shape[1:] for one in attentions}) == 1, "calls of one block on maps of several sizes"
        if len(attentions) == 1:
            return attentions[0]
        return QueryAttention(
            probs=torch.cat([one.probs for one in attentions]),
            off_map=torch.cat([one.off_map for one in attentions]),
            mask=torch.stack([one.mask for one in attentions]).any(0),
            output=torch.cat([one.output for one in attentions]),
            recorded_output=torch.cat([one.recorded_output for one in attentions]),
        )

    def _call_attention(self, call: AttentionCall, y: int, x: int) -> QueryAttention:
        if isinstance(call, RangedAttentionCall):
            # In a downsampling block of HaloNet only every second position is a query.
            strides = [-(-call.key.shape[axis] // call.query.shape[axis]) for axis in (1, 2)]
            return call.query_attention(y // strides[0], x // strides[1])
        if isinstance(call, RoutedAttentionCall):
            return call.query_attention(y, x)
        return call.query_attention(y, x, (self.height, self.width), self.num_prefix_tokens)


@dataclass
class _Recorder(TorchFunctionMode):
    """Records attention calls while `active`."""

    active: bool = False
    calls: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not self.active:
            return out
        operator = func._opname if getattr(func, "namespace", None) == "attnzoo" else ""
        if operator == "ranged_attention_2d":
            assert args[6] is None, "additional keys are not positions of the map"
            query, key, value, rpb, row_terms, col_terms = _detach(args[:6])
            rows, cols, scale = args[8:11]
            self.calls.append(
                RangedAttentionCall(query, key, value, rpb, row_terms, col_terms, rows, cols, scale, out[0].clone())
            )
        elif operator == "routed_attention_2d":
            query, key, value, routes = _detach(args[:4])
            self.calls.append(RoutedAttentionCall(query, key, value, routes, args[4], args[5], out[0].clone()))
        elif func is F.scaled_dot_product_attention:
            self.calls.append(_dense_call(out, *args, **(kwargs or {})))
        return out


def _detach(tensors: Sequence[torch.Tensor | None]) -> list[Any]:
    return [None if tensor is None else tensor.detach() for tensor in tensors]


def _dense_call(
    out: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> DenseAttentionCall:
    assert not is_causal
    assert not enable_gqa
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    query, key, value, bias = _detach((query, key, value, attn_mask))
    return DenseAttentionCall(query, key, value, bias, factor, out.clone(), out)


def record_attention(backbone: Any, image: torch.Tensor, stage: int, block: int) -> RecordedAttention:
    """Runs a backbone and records the attention calls of one block.

    Args:
        backbone: A backbone, or the `FeatureMaps` around one. It is put into evaluation mode.
        image: (1, C, H, W), normalized.
        stage: Index of the block's stage.
        block: Index of the block in its stage.

    Raises:
        ValueError: There is no such block, or `image` is not a single image.
    """
    if image.ndim != 4 or len(image) != 1:
        raise ValueError(f"image must be a single image (1, channels, height, width), got {tuple(image.shape)}.")
    module = find_block(backbone, stage, block)
    body = getattr(backbone, "body", backbone)
    recorder = _Recorder()
    sizes: list[tuple[int, int]] = []

    def start_recording(_: nn.Module, args: tuple[Any, ...]) -> None:
        recorder.active = True
        sizes.append(input_size(body, args))

    def stop_recording(*_: Any) -> None:
        recorder.active = False

    handles = [module.register_forward_pre_hook(start_recording), module.register_forward_hook(stop_recording)]
    try:
        with torch.no_grad(), recorder:
            backbone.eval()(image)
    finally:
        for handle in handles:
            handle.remove()
    (height, width), *_ = sizes
    return RecordedAttention(_join_agent_calls(recorder.calls), height, width, getattr(body, "num_prefix_tokens", 0))


def _join_agent_calls(calls: list[Any]) -> list[AttentionCall]:
    """Joins the two calls of agent attention: the values of the second are the output of the first."""
    joined: list[AttentionCall] = []
    for call in calls:
        previous = joined[-1] if joined else None
        if (
            isinstance(call, DenseAttentionCall)
            and isinstance(previous, DenseAttentionCall)
            and call.uses_output_of(previous)
        ):
            joined[-1] = AgentAttentionCall(previous, call)
        else:
            joined.append(call)
    return joined


__getattr__ = renamed_names(__name__, {"Recorded": "RecordedAttention"})
