"""Tests of the problems that the benchmarks measure."""

from __future__ import annotations

import pytest
import torch

from attnzoo.tools.benchmarking.operations import BIFORMER_STAGES, OPERATIONS

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_implementation_accepts_the_operands(name: str):
    operation = OPERATIONS[name]
    options = {key: option.default for key, option in operation.options.items()}
    problem = operation.build(min(operation.sizes), 1, 32, torch.float32, CPU, **options)
    assert next(iter(problem.implementations)).startswith("attnzoo")
    assert len(problem.implementations) > 1
    for implementation in problem.implementations.values():
        out = implementation.compute(*(problem.operands[key] for key in implementation.operands))
        assert out.shape == problem.out_grad.shape
    assert problem.settings["size"] == min(operation.sizes)[0]


def test_operands_are_deterministic():
    build = OPERATIONS["neighborhood"].build
    first, second = (build((7, 7), 1, 4, torch.float64, CPU, kernel_size=3) for _ in range(2))
    for name, operand in first.operands.items():
        assert torch.equal(operand, second.operands[name])
        assert operand.dtype == torch.float64
    assert first.operands["rpb"].shape == (16, 5, 5)


def test_bias_is_float32_for_half_precision_operands():
    problem = OPERATIONS["neighborhood"].build((7, 7), 1, 4, torch.bfloat16, CPU, kernel_size=3)
    assert problem.operands["rpb"].dtype == torch.float32
    assert problem.operands["query"].dtype == torch.bfloat16


def test_default_topk_is_that_of_biformer():
    build = OPERATIONS["routing"].build
    settings = build((14, 14), 1, 4, torch.float32, CPU, num_regions=7).settings
    assert (settings["heads"], settings["topk"]) == BIFORMER_STAGES[14, 14]
    assert build((14, 14), 1, 4, torch.float32, CPU, num_regions=7, topk=2).settings["topk"] == 2
    assert build((14, 21), 1, 4, torch.float32, CPU, num_regions=7).settings == {"size": "14x21", "heads": 2, "topk": 4}
