"""Tile sizes of the kernels of routed attention: "forward", "dq" and "dkv"."""

from __future__ import annotations

from ...triton_common.tile_sizes import TileSizes, TileTable, TileTables

_HALF: TileTable = {
    32: {None: TileSizes(64, 32, 4, 2)},
    64: {None: TileSizes(64, 32, 4, 2)},
    128: {None: TileSizes(64, 32, 4, 2), "dkv": TileSizes(64, 16, 4, 2)},
    256: {None: TileSizes(64, 32, 8, 2)},
}
# "tf32x3" (three tf32 products per float32 product) has a relative error of about 2^-21. It needs many registers; with
# these sizes nothing spills.
_FLOAT32: TileTable = {
    32: {None: TileSizes(64, 16, 4, 2, "tf32x3"), "dq": TileSizes(32, 16, 4, 2, "tf32x3")},
    64: {
        None: TileSizes(32, 16, 8, 2, "tf32x3"),
        "forward": TileSizes(32, 16, 4, 2, "tf32x3"),
        "dkv": TileSizes(16, 16, 4, 2, "tf32x3"),
    },
    128: {
        None: TileSizes(32, 16, 8, 2),
        "forward": TileSizes(32, 16, 4, 2, "tf32x3"),
        "dkv": TileSizes(16, 16, 8, 2, "tf32x3"),
    },
}

TABLES = TileTables(_HALF, _FLOAT32)
