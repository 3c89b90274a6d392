"""Dequantising on NVIDIA's GPUs, byte for byte as MLX does it and faster; nowhere else is it looked at.

MLX 0.32.4 writes dequantised weights at a third of the memory's speed. Here a thread unpacks a run of values
that fills whole words, and stores it in as few writes as the hardware has.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from statistics import median

import mlx.core as mx

Kernel = Callable[[mx.array, mx.array, mx.array], mx.array]  # packed rows, scales, biases to rows

BITS = (4, 5, 6, 8)
GROUPS = (32, 64, 128)
SIDE = 4096  # of the matrix that is timed, a middling layer of the models that are served
REPEATS = 5
BLOCK = 256  # threads

_TYPES = {  # of what is written: C's name, header, and how two floats become a word
    mx.bfloat16: ("__nv_bfloat16", "cuda_bf16.h", "__float2bfloat16", "__bfloat16_as_ushort"),
    mx.float16: ("__half", "cuda_fp16.h", "__float2half", "__half_as_ushort"),
}


@cache
def dequantizer(bits: int, group_size: int, dtype: mx.Dtype) -> Kernel | None:
    """What dequantises such weights faster than MLX on this device; None where nothing does.

    Timed once a process. Both ways give the same bytes, so a job repeats whichever is taken.
    """
    if not mx.cuda.is_available() or mx.default_device().type != mx.DeviceType.gpu:
        return None
    if bits not in BITS or group_size not in GROUPS or dtype not in _TYPES:
        return None
    ours, theirs = kernel(bits, group_size, dtype), _mlx(bits, group_size)
    rows = mx.random.normal((SIDE, SIDE), key=mx.random.key(0)).astype(dtype)
    packed = mx.quantize(rows, group_size=group_size, bits=bits)
    return ours if _seconds(ours, *packed) < _seconds(theirs, *packed) else None


def kernel(bits: int, group_size: int, dtype: mx.Dtype) -> Kernel:
    """The kernel itself, to be called where there is a CUDA device."""
    run = run_of(bits)
    made = mx.fast.cuda_kernel(
        name=f"kiln_dequantize_{bits}_{group_size}_{str(dtype).removeprefix('mlx.core.')}",
        input_names=["packed", "scales", "biases", "runs"],
        output_names=["out"],
        source=source(bits, group_size, dtype),
        header=f"#include <{_TYPES[dtype][1]}>\n",
    )

    def dequantize(packed: mx.array, scales: mx.array, biases: mx.array) -> mx.array:
        shape = (*packed.shape[:-1], packed.shape[-1] * 32 // bits)
        runs = packed.size * 32 // bits // run
        (rows,) = made(  # type: ignore[operator]
            inputs=[packed, scales, biases, mx.array([runs], mx.uint32)],
            grid=(runs, 1, 1),
            threadgroup=(BLOCK, 1, 1),
            output_shapes=[shape],
            output_dtypes=[dtype],
        )
        return rows  # type: ignore[no-any-return]

    return dequantize


def run_of(bits: int) -> int:
    """Values that a thread unpacks: the fewest that fill whole words and whole 16-byte stores."""
    return next(count for count in (8, 16, 32) if count * bits % 32 == 0)


def source(bits: int, group_size: int, dtype: mx.Dtype) -> str:
    """The kernel's body: values lie one after another in a stream of bits, lowest first."""
    run = run_of(bits)
    _, _, rounded, as_short = _TYPES[dtype]
    words = run * bits // 32
    values = [_value(k * bits, bits) for k in range(run)]
    pairs = [
        f"(unsigned int){as_short}({rounded}(s * (float)({low}) + z))"
        f" | ((unsigned int){as_short}({rounded}(s * (float)({high}) + z)) << 16)"
        for low, high in zip(values[::2], values[1::2], strict=True)
    ]
    stores = [
        f"to[{i // 4}] = make_uint4({', '.join(f'o{k}' for k in range(i, i + 4))});"
        for i in range(0, len(pairs), 4)
    ]
    return "\n".join(
        [
            "size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;",
            "if (i >= (size_t)runs[0]) return;",
            f"const unsigned int* from = packed + i * {words};",
            *(f"unsigned int w{k} = from[{k}];" for k in range(words)),
            f"size_t g = i / {group_size // run};",
            "float s = (float)scales[g], z = (float)biases[g];",
            *(f"unsigned int o{k} = {pair};" for k, pair in enumerate(pairs)),
            f"uint4* to = reinterpret_cast<uint4*>(out) + i * {run // 8};",
            *stores,
        ]
    )


def _value(offset: int, bits: int) -> str:
    """C for the value that begins at a bit of the run."""
    word, shift = divmod(offset, 32)
    low = f"w{word} >> {shift}" if shift else f"w{word}"
    if shift + bits > 32:
        low = f"({low}) | (w{word + 1} << {32 - shift})"
    return f"({low}) & {(1 << bits) - 1}"


def _mlx(bits: int, group_size: int) -> Kernel:
    def dequantize(packed: mx.array, scales: mx.array, biases: mx.array) -> mx.array:
        return mx.dequantize(packed, scales, biases, group_size=group_size, bits=bits)

    return dequantize


def _seconds(way: Kernel, *packed: mx.array) -> float:
    taken = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        mx.eval([way(*packed) for _ in range(4)])
        taken.append(time.perf_counter() - started)
    return median(taken[1:])  # the first compiles
