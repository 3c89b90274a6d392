"""Takes a checkpoint's tensors out one by one: each is checked against its file's header before it is read.

A saved `.scales` decides what is quantised, and the stored shapes say to how many bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import mlx.core as mx

from pixelkiln.worker.engines.checkpoints.quantize import GROUP_SIZES
from pixelkiln.worker.engines.checkpoints.stored import FLOATS, Stored
from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.mlx.convolution import Conv
from pixelkiln.worker.engines.mlx.layers import Embedding, Linear, Quantized, RMSNorm, Stacked, arrays, stack

WIDTHS = (2, 3, 4, 5, 6, 8)  # bits that MLX multiplies by
BATCH_BYTES = 256 * 2**20  # evaluated together, so that a cast never holds two copies of the whole model


class Weights:
    """A folder's tensors, `stored`, by the names a model asks for; reading one takes it out.

    `dtype` is what floating-point tensors become, `dequantize_from` what Quantized says. Shapes in errors are
    the config's expectation.
    """

    def __init__(
        self, folder: Path, stored: Mapping[str, Stored], dtype: mx.Dtype, dequantize_from: int = 0
    ) -> None:
        self.folder = folder
        self.stored = stored
        self.dtype = dtype
        self.dequantize_from = dequantize_from
        self._read: set[str] = set()
        self._open: dict[Path, dict[str, mx.array]] = {}
        self._pending: list[mx.array] = []
        self._pending_bytes = 0

    def tensor(self, name: str, shape: Sequence[int]) -> mx.array:
        """One floating-point tensor of exactly this shape, in `dtype`."""
        stored = self._expect(name, shape)
        if stored.dtype not in FLOATS:
            raise CheckpointError(f"{stored.file}: tensor {stored.name} is {stored.dtype}, expected a float")
        return self._take(name, stored)

    def dense(self, name: str, shape: Sequence[int]) -> mx.array:
        """The same, dequantised where it is stored quantised."""
        stem = name.removesuffix(".weight")
        if stem != name and f"{stem}.scales" in self.stored and len(shape) == 2:
            return self._quantized(stem, *shape).rows()
        return self.tensor(name, shape)

    def linear(self, name: str, inputs: int, outputs: int, bias: bool = False) -> Linear:
        """A linear layer, quantised if its `.scales` are stored."""
        weight = self._matrix(name, outputs, inputs)
        return Linear(weight, self.tensor(f"{name}.bias", (outputs,)) if bias else None)

    def stacked(self, names: Sequence[str], inputs: int, outputs: Sequence[int]) -> Stacked:
        """Linear layers of one input, without biases, those stored alike as one."""
        matrices = [self._matrix(name, rows, inputs) for name, rows in zip(names, outputs, strict=True)]
        made = stack(matrices)
        self._pending += [array for linear, _ in made.parts for array in arrays(linear.weight)]
        self._evaluate()  # now, so that no more than these few matrices exist twice
        return made

    def embedding(self, name: str, rows: int, columns: int) -> Embedding:
        """A token table, quantised if its `.scales` are stored."""
        return Embedding(self._matrix(name, rows, columns))

    def conv(
        self,
        name: str,
        inputs: int,
        outputs: int,
        side: int = 3,
        stride: int = 1,
        padding: tuple[int, int] | None = None,
        frames: int | None = None,
    ) -> Conv:
        """A convolution with a bias, stored (outputs, inputs, side, side) whatever its sizes.

        Padded, where nothing else is said, so that a stride of 1 keeps a map's size. With `frames`, which are
        stored before the sides, the last is taken: what is left where nothing lies before in time.
        """
        shape = (outputs, inputs, *([] if frames is None else [frames]), side, side)
        weight = self.tensor(f"{name}.weight", shape)
        weight = weight if frames is None else weight[:, :, -1]
        weight = mx.contiguous(weight.transpose(0, 2, 3, 1))
        self._pending.append(weight)
        bias = self.tensor(f"{name}.bias", (outputs,))
        return Conv(weight, bias, stride, padding or (side // 2, side // 2))

    def norm(self, name: str, size: int, eps: float) -> RMSNorm:
        """An RMS norm's weight."""
        return RMSNorm(self.tensor(f"{name}.weight", (size,)), eps)

    def finish(self, ignore: Iterable[str]) -> None:
        """Evaluate what was read. Raises CheckpointError for a tensor nobody asked for outside `ignore`."""
        extra = sorted(self.stored.keys() - self._read)
        ignored = tuple(ignore)
        for name in extra:
            if not name.startswith(ignored):
                stored = self.stored[name]
                raise CheckpointError(f"{stored.file}: tensor {stored.name} is not part of this model")
        self._evaluate()
        self._open.clear()

    def _matrix(self, name: str, rows: int, columns: int) -> mx.array | Quantized:
        if f"{name}.scales" in self.stored:
            return self._quantized(name, rows, columns)
        return self.tensor(f"{name}.weight", (rows, columns))

    def _quantized(self, name: str, rows: int, columns: int) -> Quantized:
        packed = self._find(f"{name}.weight")
        scales = self._find(f"{name}.scales")
        words, groups = (one.shape[-1] if one.shape else 0 for one in (packed, scales))
        bits, group_size = words * 32 // columns, columns // max(groups, 1)
        fits = words * 32 == bits * columns and groups * group_size == columns
        if packed.dtype != "U32" or not fits or bits not in WIDTHS or group_size not in GROUP_SIZES:
            raise CheckpointError(
                f"{packed.file}: tensor {packed.name} has shape {list(packed.shape)} with scales "
                f"{list(scales.shape)}, which is no quantised ({rows}, {columns})"
            )
        self._expect(f"{name}.weight", (rows, words))
        return Quantized(
            self._take(f"{name}.weight", packed),
            self.tensor(f"{name}.scales", (rows, groups)),
            self.tensor(f"{name}.biases", (rows, groups)),
            group_size,
            bits,
            self.dequantize_from,
        )

    def _find(self, name: str) -> Stored:
        try:
            return self.stored[name]
        except KeyError:
            raise CheckpointError(f"{self.folder} has no tensor {name}") from None

    def _expect(self, name: str, shape: Sequence[int]) -> Stored:
        stored = self._find(name)
        if stored.shape != tuple(shape):
            raise CheckpointError(
                f"{stored.file}: tensor {stored.name} has shape {list(stored.shape)}, "
                f"config.json expects {list(shape)}"
            )
        return stored

    def _take(self, name: str, stored: Stored) -> mx.array:
        if stored.file not in self._open:
            try:
                loaded = mx.load(str(stored.file))
            except (RuntimeError, ValueError) as error:  # what MLX cannot hold, 8-bit floats for one
                raise CheckpointError(f"{stored.file} cannot be read: {error}") from error
            assert isinstance(loaded, dict)
            self._open[stored.file] = loaded
        self._read.add(name)
        array = self._open[stored.file].pop(stored.name)
        if stored.dtype in FLOATS:
            array = array.astype(self.dtype)
        self._pending.append(array)
        self._pending_bytes += stored.size
        if self._pending_bytes > BATCH_BYTES:
            self._evaluate()
        return array

    def _evaluate(self) -> None:
        mx.eval(self._pending)
        self._pending, self._pending_bytes = [], 0
