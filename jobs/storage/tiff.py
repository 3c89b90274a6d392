"""TIFF, as scanners and cameras write it: the first picture, by the directory that decoding needs."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from math import prod

from pixelkiln.jobs.storage import foreign, profiles
from pixelkiln.jobs.storage.exif import ORIENTATION
from pixelkiln.jobs.storage.parts import MAX_PARTS, ForeignError, Parts

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _TONES = 256, 257, 258, 259, 262
_STRIPS, _SAMPLES, _ROWS, _STRIP_BYTES, _PLANES = 273, 277, 278, 279, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES, _FORMAT = 322, 323, 324, 325, 339
_KEPT = {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _TONES, _STRIPS, _SAMPLES, _ROWS, _STRIP_BYTES, _PLANES}
_KEPT |= {_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES, _FORMAT}
_KEPT |= {
    266,
    292,
    293,
    317,
    320,
    338,
    347,
    530,
    532,
}  # order of bits, fax, predictor, palette, alpha, JPEG's
_KIND, _CAMERA, _DNG, _PROFILE = 254, 271, 50_706, 34_675
_COMPRESSIONS = {1, 2, 3, 4, 5, 7, 8, 32_773, 32_946}  # none, fax, LZW, JPEG, Deflate, PackBits
_RAW_TONES = {32_803, 34_892}  # of a sensor's
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}  # of a value
_WHOLE = {1: "B", 3: "H", 4: "I"}


class _Directory:
    """The first directory of a file. Raises ValueError where it is cut or malformed."""

    def __init__(self, data: bytes) -> None:
        self.order = ">" if data.startswith(b"MM") else "<"
        (self.at,) = struct.unpack_from(f"{self.order}I", data, 4)
        (self.count,) = struct.unpack_from(f"{self.order}H", data, self.at)
        self._data = data
        self.entries: dict[
            int, tuple[int, int, int, int]
        ] = {}  # by tag: entry, type, count, where its values lie
        for entry in range(self.at + 2, self.at + 2 + 12 * self.count, 12):
            tag, kind, count = struct.unpack_from(f"{self.order}HHI", data, entry)
            size = _BYTES.get(kind, 1) * count
            (place,) = (entry + 8,) if size <= 4 else struct.unpack_from(f"{self.order}I", data, entry + 8)
            if tag in _KEPT | {_KIND, _CAMERA, _DNG, _PROFILE, ORIENTATION}:
                if place + size > len(data):
                    raise ValueError("the file is truncated")
                self.entries.setdefault(tag, (entry, kind, count, place))
        (self.next,) = struct.unpack_from(f"{self.order}I", data, self.at + 2 + 12 * self.count)

    def numbers(self, tag: int, default: Sequence[int] = ()) -> Sequence[int]:
        """The whole numbers of a tag."""
        if tag not in self.entries:
            return default
        _, kind, count, place = self.entries[tag]
        if kind not in _WHOLE or not 0 < count <= MAX_PARTS:
            raise ValueError(f"TIFF's tag {tag} has {count:,} values of type {kind}")
        return struct.unpack_from(f"{self.order}{count}{_WHOLE[kind]}", self._data, place)

    def number(self, tag: int, default: int) -> int:
        """The first of them."""
        return self.numbers(tag, (default,))[0]

    def raw(self, tag: int) -> bytes:
        """The bytes of a tag."""
        _, kind, count, place = self.entries.get(tag, (0, 1, 0, 0))
        return self._data[place : place + count * _BYTES.get(kind, 1)]

    def alone(self) -> bytes:
        """The file with this directory, only what decoding needs in it, and none after it."""
        kept = [self.entries[tag][0] for tag in sorted(self.entries) if tag in _KEPT]
        for tag in _KEPT & self.entries.keys():
            _, kind, count, _ = self.entries[tag]
            if count > MAX_PARTS and kind != 7:
                raise ValueError(f"TIFF's tag {tag} has {count:,} values")
        table = struct.pack(f"{self.order}H", len(kept))
        table += b"".join(self._data[entry : entry + 12] for entry in kept) + bytes(4)
        return b"".join((self._data[: self.at], table, self._data[self.at + len(table) :]))


def tiff(data: bytes) -> Parts:
    """See containers.parts."""
    try:
        directory = _Directory(data)
    except struct.error:
        raise ValueError("the file is truncated") from None
    tones, compression = directory.number(_TONES, 1), directory.number(_COMPRESSION, 1)
    camera = _camera(data, directory)
    if camera is not None or tones in _RAW_TONES:
        raise ForeignError(foreign.raw(camera or ""))
    if compression not in _COMPRESSIONS:
        raise ForeignError(
            f"is a TIFF whose compression ({compression}) is not read; save it with LZW, or as PNG"
        )
    size = directory.number(_WIDTH, 0), directory.number(_HEIGHT, 0)
    places = _TILES if _TILES in directory.entries else _STRIPS
    lengths = directory.numbers(_TILE_BYTES if places == _TILES else _STRIP_BYTES)
    for place, length in zip(directory.numbers(places), lengths, strict=False):
        if place + length > len(data):
            raise ValueError("the file is truncated")
    bits = directory.numbers(_BITS, (1,))
    top = 2 ** min(bits[0], 16) - 1
    return Parts(
        "TIFF",
        directory.alone(),
        size,
        directory.number(ORIENTATION, 1),
        whole=_buffer(directory, size, max(bits), len(data)),
        profile=profiles.sound(directory.raw(_PROFILE)),
        tones=(top, 0) if tones == 0 else (0, top),
        more="pages" if directory.next else "",
    )


def _camera(data: bytes, directory: _Directory) -> str | None:
    """What a raw file's directory tells of itself: there the first picture is a thumbnail, if any."""
    if data[8:10] == b"CR":
        return " (CR2)"
    if _DNG in directory.entries:
        return " (DNG)"
    makers = {b"NIKON": " (NEF)", b"SONY": " (ARW)", b"PENTAX": " (PEF)", b"SAMSUNG": " (SRW)"}
    if directory.number(_KIND, 0) & 1:
        maker = directory.raw(_CAMERA).upper()
        return next((told for name, told in makers.items() if maker.startswith(name)), "")
    return None


def _buffer(directory: _Directory, size: tuple[int, int], bits: int, length: int) -> int:
    """Bytes of libtiff's copy of the file and of a strip or a tile, unpacked; of what a JPEG in one holds."""
    width, height = size
    if directory.number(_COMPRESSION, 1) == 1:
        return 0
    samples = directory.number(_SAMPLES, 1)
    if _TILES in directory.entries:
        area = prod((directory.number(_TILE_WIDTH, width), directory.number(_TILE_HEIGHT, height)))
    else:
        area = width * min(height, directory.number(_ROWS, height))
    unpacked = -(-area * samples * bits // 8)
    return length + unpacked * (4 if directory.number(_COMPRESSION, 1) == 7 else 1)
