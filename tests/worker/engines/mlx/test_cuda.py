"""Weights dequantised by our own kernel: the bytes that MLX gives. The kernel itself needs a CUDA device."""

from __future__ import annotations

import itertools
import re

import mlx.core as mx
import numpy as np
import pytest

from pixelkiln.worker.engines.mlx.cuda import BITS, GROUPS, dequantizer, kernel, run_of, source

HAS_CUDA = mx.cuda.is_available()


@pytest.mark.parametrize("bits", BITS)
def test_a_run_fills_whole_words_and_stores_and_lies_in_one_group(bits: int) -> None:
    run = run_of(bits)
    assert run * bits % 32 == run % 8 == 0
    assert all(group % run == 0 for group in GROUPS)


@pytest.mark.parametrize("bits", BITS)
def test_values_are_unpacked_where_mlx_packs_them(bits: int) -> None:
    """The expressions of the kernel, read as Python, on words that MLX packed."""
    run = run_of(bits)
    rows = np.random.default_rng(bits).integers(0, 2**bits, (1, 128)).astype(np.float32)
    rows[0, :2] = 0, 2**bits - 1  # the whole range, so that a value is its own step
    packed, scales, biases = mx.quantize(mx.array(rows), group_size=128, bits=bits)
    step, least = (float(one[0, 0]) for one in (scales, biases))
    words = [int(one) for one in np.array(packed)[0]]
    expressions = re.findall(r"\(float\)\((.*?)\) \+ z", source(bits, 128, mx.bfloat16))
    assert len(expressions) == run
    for first in range(128 // run):
        named = {f"w{k}": words[first * run * bits // 32 + k] for k in range(run * bits // 32)}
        for k, expression in enumerate(expressions):
            found = eval(expression, named) * step + least  # our own source, on our own numbers
            assert found == pytest.approx(rows[0, first * run + k], abs=step / 2)


def test_nothing_is_taken_where_there_is_no_cuda() -> None:
    if not HAS_CUDA:
        assert dequantizer(6, 64, mx.bfloat16) is None
    assert dequantizer(3, 64, mx.bfloat16) is dequantizer(6, 64, mx.float32) is None


@pytest.mark.skipif(not HAS_CUDA, reason="needs a CUDA device")
def test_it_gives_the_bytes_that_mlx_gives() -> None:
    dtypes, shapes = (mx.bfloat16, mx.float16), ((1, 128), (96, 384), (1000, 4096))
    for bits, group_size, dtype, shape in itertools.product(BITS, GROUPS, dtypes, shapes):
        rows = (mx.random.normal(shape, key=mx.random.key(bits)) * 0.02).astype(dtype)
        packed = mx.quantize(rows, group_size=group_size, bits=bits)
        ours = kernel(bits, group_size, dtype)(*packed)
        theirs = mx.dequantize(*packed, group_size=group_size, bits=bits)
        same = mx.array_equal(ours.view(mx.uint16), theirs.view(mx.uint16))
        assert same, (bits, group_size, dtype, shape)
