"""The BLAS that MLX finds in a process of its own, since a library once loaded stays."""

from __future__ import annotations

import subprocess
import sys

import pytest

MULTIPLY = """
import ctypes, hashlib
from pixelkiln.worker.engines.blas import use_openblas
library = use_openblas()
import mlx.core as mx
import numpy as np
assert use_openblas() is None  # too late
a = mx.random.normal((257, 511), key=mx.random.key(1))
b = mx.random.normal((129, 511), key=mx.random.key(2)).T
c = np.array(a @ b)
assert np.allclose(c, np.array(a) @ np.array(b), atol=1e-3)
print(ctypes.CDLL(None).cblas_sgemm is not None, hashlib.sha256(c.tobytes()).hexdigest(), library)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="macOS has a BLAS of its own")
def test_products_are_openblas_and_the_same_in_every_process() -> None:
    runs = [
        subprocess.run([sys.executable, "-c", MULTIPLY], check=True, capture_output=True, text=True).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert runs[0].startswith("True ")
    assert "libopenblas" in runs[0]
