"""Prompts to token ids, in the template that the text encoder was trained with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pixelkiln.worker.engines.checkpoints.tokenizer import PlainTokenizer

MOST = 512  # tokens, of the whole template: a longer prompt loses its end, and the template's


@dataclass(frozen=True, slots=True)
class Tokens:
    """A prompt in its template, cut to MOST."""

    ids: tuple[int, ...]
    whole: int  # how many there were before the cut

    @property
    def warning(self) -> str | None:
        """What a user should know of the cut; None where there was none."""
        return f"cut to {MOST} of {self.whole} tokens" if self.whole > MOST else None


class Prompts:
    """Encodes prompts as Qwen3's chat template does; a control token typed in one is plain text."""

    def __init__(self, folder: Path, vocabulary: int) -> None:
        self._text = PlainTokenizer(folder, vocabulary, ("<|im_start|>", "<|im_end|>"))

    def encode(self, prompt: str) -> Tokens:
        """The ids of a prompt."""
        start, end = self._text.control
        turn, newline, answer = (self._text(text) for text in (f"user\n{prompt}", "\n", "assistant\n"))
        ids = (start, *turn, end, *newline, start, *answer)
        return Tokens(ids[:MOST], len(ids))
