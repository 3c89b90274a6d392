"""Prompts to token ids. Only `tokenizers` is needed, and control tokens never come from a prompt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pixelkiln.worker.engines.checkpoints.tokenizer import PlainTokenizer

LENGTH = 512  # tokens of every prompt, pads included: a shorter one with fewer pads is another picture
_CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")


@dataclass(frozen=True, slots=True)
class Tokens:
    """A prompt in its template, cut or padded on the right to LENGTH."""

    ids: tuple[int, ...]
    real: int  # how many are not pads
    lost: int  # tokens that were cut off


class Prompts:
    """Encodes prompts as Qwen3's chat template does with thinking off. Raises CheckpointError."""

    def __init__(self, folder: Path, vocabulary: int) -> None:
        self._text = PlainTokenizer(folder, vocabulary, _CONTROL)

    def encode(self, prompt: str) -> Tokens:
        """The ids of a prompt, always LENGTH of them."""
        text, (pad, start, end, think, thought) = self._text, self._text.control
        ids = [
            *(start, *text(f"user\n{prompt}"), end, *text("\n")),
            *(start, *text("assistant\n"), think, *text("\n\n"), thought, *text("\n\n")),
        ]
        kept = ids[:LENGTH]
        return Tokens((*kept, *[pad] * (LENGTH - len(kept))), len(kept), len(ids) - len(kept))
