"""Some rows of a large table, without the table."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from pixelkiln.worker.engines.checkpoints.stored import Stored

_NUMPY = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32}


def rows(table: Stored, ids: Sequence[int]) -> mx.array:
    """(len(ids), columns) of a floating-point matrix, read from its file, in its own type."""
    found = np.memmap(table.file, _NUMPY[table.dtype], "r", table.start, table.shape)[list(ids)]
    array = mx.array(np.asarray(found))
    return array.view(mx.bfloat16) if table.dtype == "BF16" else array
