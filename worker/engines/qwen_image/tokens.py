"""Prompts to token ids and positions, in the two templates that the models were trained on.

Only `tokenizers` is needed. The control tokens are put in by id, the text between them is encoded piece by
piece, as the reference's tokenizer splits it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from pixelkiln.jobs.errors import SpecError
from pixelkiln.worker.engines.checkpoints.files import read_file, read_json, shown, whole
from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.qwen_image.config import Config
from pixelkiln.worker.engines.qwen_image.packing import Grid

EDIT = (
    "Describe the key features of the input image (color, shape, size, texture, objects, background), then "
    "explain how the user's text instruction should alter or modify the image. Generate a new image that "
    "meets the user's requirements while maintaining consistency with the original input where appropriate."
)
DRAW = (
    "Describe the image by detailing the color, shape, size, texture, quantity, text, spatial relationships "
    "of the objects and background:"
)
MOST_DRAWN = 1024  # tokens behind the dropped ones, of a prompt without pictures; the reference cuts there
CONTROL = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|image_pad|>", "<|vision_end|>")

# What tokenizer.json says of Qwen2's tokenizer; the releases without one have vocab.json and merges.txt.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
Positions = NDArray[np.int32]  # (3, tokens): t, h, w


@dataclass(frozen=True, slots=True)
class Encoded:
    """One prompt as the language model takes it."""

    ids: tuple[int, ...]
    positions: Positions
    dropped: int  # leading tokens whose features condition nothing


class Prompts:
    """Encodes prompts for a checkpoint folder. Raises CheckpointError for a tokenizer that does not fit."""

    def __init__(self, folder: Path, config: Config) -> None:
        path, data = _tokenizer(folder)
        last = config.text.vocabulary - 1
        try:
            added = {one["content"]: whole(one, "id", last, 0) for one in data.get("added_tokens") or ()}
            self._start, self._end, *image = (added[name] for name in CONTROL)
        except KeyError as error:
            raise CheckpointError(f"{path} has no token {error.args[0]}") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path}: added_tokens: {error}") from error
        self._image = tuple(image)
        self._control = tuple(added)
        try:
            self._plain = Tokenizer.from_str(json.dumps({**data, "added_tokens": [], "post_processor": None}))
        except Exception as error:  # tokenizers raises nothing narrower
            raise CheckpointError(f"{path}: {shown(str(error), 120)}") from error
        largest = max(self._plain.get_vocab().values(), default=0)
        if largest > last:  # MLX would read beyond the table
            raise CheckpointError(f"{path} has a token {largest}, config.json {last + 1} of them")

    @property
    def pad(self) -> int:
        """The id that stands for one token of a picture."""
        return self._image[1]

    def encode(
        self, prompt: str, edits: bool, pictures: Sequence[Grid] = (), field: str = "prompt"
    ) -> Encoded:
        """A prompt in the template to edit, or to draw, with rows and columns of each picture's tokens.

        Raises SpecError, naming `field`, for a prompt that spells a control token.
        """
        spelt = next((name for name in self._control if name in prompt), None)
        if spelt is not None:
            raise SpecError(field, f"spells the control token {spelt}, which steers the model; leave it out")
        newline, text = self._text("\n"), "user\n"
        system = self._text(f"system\n{EDIT if edits else DRAW}")
        ids, at = [self._start, *system, self._end, *newline, self._start], []
        dropped = len(ids) + len(self._text(text))
        # One piece up to the next picture: a text's first characters may merge with the line break before.
        for number, (rows, columns) in enumerate(pictures, 1):
            start, pad, end = self._image
            ids += [*self._text(f"{text}Picture {number}: "), start]
            at.append(len(ids))
            ids += [*[pad] * (rows * columns), end]
            text = ""
        ids += [*self._text(f"{text}{prompt}"), self._end, *newline, self._start, *self._text("assistant\n")]
        if not edits:
            ids = ids[: dropped + MOST_DRAWN]
        return Encoded(tuple(ids), _positions(len(ids), list(zip(at, pictures, strict=True))), dropped)

    def _text(self, text: str) -> list[int]:
        ids: list[int] = self._plain.encode(text, add_special_tokens=False).ids
        return ids


def _positions(count: int, pictures: Sequence[tuple[int, Grid]]) -> Positions:
    """Text counts up on all axes; a picture begins where the text ends, and text past its largest."""
    parts, at, place = [], 0, 0

    def line(tokens: int) -> Positions:
        return np.tile(np.arange(place, place + tokens, dtype=np.int32), (3, 1))

    for begin, (rows, columns) in pictures:
        parts.append(line(begin - at))
        place += begin - at
        row, column = np.indices((rows, columns), np.int32).reshape(2, -1)
        parts.append(np.stack([np.full_like(row, place), place + row, place + column]))
        place += max(rows, columns)
        at = begin + rows * columns
    return np.concatenate([*parts, line(count - at)], axis=1)


def _tokenizer(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The tokenizer as tokenizer.json describes one, and the file it comes from."""
    for name in ("processor", "tokenizer"):
        path = folder / name / "tokenizer.json"
        if path.exists():
            return path, read_json(path)
    path = folder / "tokenizer"
    merges = read_file(path / "merges.txt").decode(errors="replace").split("\n")
    added = read_json(path / "added_tokens.json")
    return path / "vocab.json", {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"content": name, "id": id} for name, id in added.items()],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": _SPLIT}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
            ],
        },
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": read_json(path / "vocab.json"),
            "merges": [rule for rule in merges if rule and not rule.startswith("#version")],
        },
    }
