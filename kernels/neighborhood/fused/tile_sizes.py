"""Tile sizes of the kernels of ranged attention.

The kernels are "forward", "dq", "dkv", "bias" and "additional".
"""

from __future__ import annotations

from ...triton_common.tile_sizes import TileSizes, TileTable, TileTables, choose_tile_sizes
from ..operands import Operands

# At dim 32, small tiles waste fewer scores on pairs that do not see each other; from dim 64 on, loading keys matters
# more.
_HALF: TileTable = {
    32: {None: TileSizes(32, 32, 2, 2)},
    64: {None: TileSizes(64, 32, 4, 2)},
    128: {None: TileSizes(64, 32, 4, 2), "dkv": TileSizes(64, 16, 4, 2)},
    256: {None: TileSizes(64, 32, 8, 2)},
}
# "tf32x3" (three tf32 products per float32 product) has a relative error of about 2^-21. It needs so many registers
# that kernels with several accumulators or long vectors would spill; plain float32 needs no more instructions there.
_FLOAT32: TileTable = {
    32: {
        None: TileSizes(64, 16, 4, 2, "tf32x3"),
        "forward": TileSizes(32, 16, 2, 2, "tf32x3"),
        "dq": TileSizes(32, 16, 2, 2, "tf32x3"),
        "bias": TileSizes(32, 32, 4, 2),
    },
    64: {
        None: TileSizes(32, 16, 4, 2, "tf32x3"),
        "dkv": TileSizes(32, 16, 8, 2, "tf32x3"),
        "bias": TileSizes(32, 32, 4, 2),
    },
    128: {
        None: TileSizes(32, 16, 8, 2),
        "forward": TileSizes(32, 16, 4, 2, "tf32x3"),
        "dkv": TileSizes(16, 16, 8, 2, "tf32x3"),
        "bias": TileSizes(32, 32, 4, 2),
        "additional": TileSizes(32, 32, 8, 2),
    },
}
# Terms that depend on the query take registers for two more numbers per score and for the sums of their gradients.
_HALF_WITH_TERMS: TileTable = {
    32: {None: TileSizes(32, 16, 2, 2)},
    64: {None: TileSizes(32, 32, 4, 2)},
    128: {None: TileSizes(32, 16, 4, 2)},
    256: {None: TileSizes(32, 16, 8, 2)},
}
_FLOAT32_WITH_TERMS: TileTable = {
    32: {None: TileSizes(32, 16, 4, 2, "tf32x3")},
    64: {None: TileSizes(32, 16, 8, 2), "bias": TileSizes(16, 16, 8, 2)},
    128: {None: TileSizes(16, 16, 8, 2)},
}

TABLES = TileTables(_HALF, _FLOAT32)
TABLES_WITH_TERMS = TileTables(_HALF_WITH_TERMS, _FLOAT32_WITH_TERMS)


def tile_sizes(kernel: str, operands: Operands) -> TileSizes:
    """Returns the sizes of a kernel for these operands."""
    has_terms = operands.row_terms is not None or operands.col_terms is not None
    # The tokens' gradients have no terms.
    tables = TABLES_WITH_TERMS if has_terms and kernel != "additional" else TABLES
    return choose_tile_sizes(tables, kernel, operands.query, operands.value)
