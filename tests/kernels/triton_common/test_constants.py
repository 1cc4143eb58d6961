from __future__ import annotations

import math
import re
from pathlib import Path

import attnzoo.kernels
from attnzoo.kernels.triton_common.constants import LN_2, LOG2_E, LOWEST_SCORE


def test_exponents_are_converted_there_and_back():
    assert 2 ** (3 * LOG2_E.value) == math.exp(3) or math.isclose(2 ** (3 * LOG2_E.value), math.exp(3), rel_tol=1e-15)
    assert LOG2_E.value * LN_2.value == 1


def test_the_difference_of_two_lowest_scores_is_zero():
    assert LOWEST_SCORE.value - LOWEST_SCORE.value == 0
    assert LOWEST_SCORE.value < -1e37


def test_no_kernel_spells_the_constants_out():
    folder = Path(attnzoo.kernels.__file__).parent
    files = [path for path in folder.rglob("*.py") if "triton" in path.read_text()]
    assert len(files) > 10
    for path in files:
        assert not re.search(r"1\.4426|0\.6931", path.read_text()), path
