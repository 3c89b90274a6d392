"""A fast BLAS for MLX's CPU backend."""

from __future__ import annotations

import ctypes
import platform
import sys
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path


def use_openblas() -> Path | None:
    """Have MLX multiply matrices with the OpenBLAS in OpenCV's wheel; call it before MLX is imported.

    MLX's CPU wheel for Linux comes with the reference BLAS, some 20 times slower. A library loaded for all
    to see wins over it, as one named in LD_PRELOAD would (whose paths cannot hold spaces). Returns the
    library, or None where there is none to use: macOS has its own, and without OpenCV things are only slow.
    """
    if platform.system() != "Linux" or "mlx.core" in sys.modules:
        return None
    try:
        libraries = [file for file in files("opencv-python") or [] if file.name.startswith("libopenblas")]
    except PackageNotFoundError:
        return None
    for library in libraries:
        path = Path(str(library.locate()))
        try:
            ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
        except OSError:  # it lacks a library of its own here
            continue
        return path
    return None
