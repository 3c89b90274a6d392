"""Prompts to token ids. Only `tokenizers` is needed, and control tokens never come from a prompt."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from pixelkiln.worker.engines.checkpoints.files import read_json, shown, whole
from pixelkiln.worker.engines.engine import CheckpointError

LENGTH = 512  # tokens of every prompt, pads included: a shorter one with fewer pads is another picture
_CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")


@dataclass(frozen=True, slots=True)
class Tokens:
    """A prompt in its template, cut or padded on the right to LENGTH."""

    ids: tuple[int, ...]
    real: int  # how many are not pads
    lost: int  # tokens that were cut off


class Prompts:
    """Encodes prompts as Qwen3's chat template does with thinking off.

    The tokenizer is built without its added tokens, so a control token typed in a prompt is plain text; the
    control tokens are put in by id.
    """

    def __init__(self, folder: Path, vocabulary: int) -> None:
        path = folder / "tokenizer.json"
        data = read_json(path)
        last = vocabulary - 1
        try:
            added = {one["content"]: whole(one, "id", last, 0) for one in data.get("added_tokens") or ()}
            self._pad, self._start, self._end, *self._think = (added[name] for name in _CONTROL)
        except KeyError as error:
            raise CheckpointError(f"{path} has no token {error.args[0]}") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path}: added_tokens: {error}") from error
        try:
            self._plain = Tokenizer.from_str(json.dumps({**data, "added_tokens": [], "post_processor": None}))
        except Exception as error:  # tokenizers raises nothing narrower
            raise CheckpointError(f"{path}: {shown(str(error), 120)}") from error
        largest = max(self._plain.get_vocab().values(), default=0)
        if largest > last:  # MLX would read beyond the table
            raise CheckpointError(f"{path} has a token {largest}, config.json {vocabulary} of them")

    def encode(self, prompt: str) -> Tokens:
        """The ids of a prompt, always LENGTH of them."""
        begin, end = self._think
        ids = [
            *(self._start, *self._text(f"user\n{prompt}"), self._end, *self._text("\n")),
            *(self._start, *self._text("assistant\n"), begin, *self._text("\n\n"), end, *self._text("\n\n")),
        ]
        kept = ids[:LENGTH]
        pads = [self._pad] * (LENGTH - len(kept))
        return Tokens((*kept, *pads), len(kept), len(ids) - len(kept))

    def _text(self, text: str) -> list[int]:
        ids: list[int] = self._plain.encode(text, add_special_tokens=False).ids
        return ids
