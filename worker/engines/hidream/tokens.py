"""Prompts to token ids. Only `tokenizers` is needed, and control tokens never come from a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pixelkiln.worker.engines.checkpoints.tokenizer import PlainTokenizer
from pixelkiln.worker.engines.hidream.config import Config

_CONTROL = ("<|im_start|>", "<|im_end|>", "<|boi_token|>", "<|tms_token|>")


class Prompts:
    """Encodes prompts as the chat template would, up to and including the timestep's token."""

    def __init__(self, folder: Path, config: Config) -> None:
        self._text = PlainTokenizer(folder, config.text.vocab_size, _CONTROL)
        self._start, self._end, *self._generate = self._text.control
        self._image = (config.vision_start_token_id, config.image_token_id, config.vision_end_token_id)

    def encode(self, prompt: str, pads: Sequence[int] = ()) -> tuple[int, ...]:
        """Ids of a prompt behind one image entry per reference, of so many pads each; the last id is tms."""
        if pads:
            start, pad, end = self._image
            images = [token for count in pads for token in (start, *[pad] * count, end)]
            turn = [*self._text("user\n"), *images, *self._text(prompt)]
        else:
            # One piece, since the text's first characters may merge with the line break before them.
            turn = self._text(f"user\n{prompt}")
        newline, answer = self._text("\n"), self._text("assistant\n")
        return (self._start, *turn, self._end, *newline, self._start, *answer, *self._generate)
