"""Prompts to token ids. Only `tokenizers` is needed, and control tokens never come from a prompt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from pixelkiln.worker.engines.checkpoints.files import read_json, shown, whole
from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.hidream.config import Config


class Prompts:
    """Encodes prompts as the chat template would, up to and including the timestep's token.

    The tokenizer is built without its added tokens, so a control token typed in a prompt is plain text; the
    control tokens are put in by id.
    """

    def __init__(self, folder: Path, config: Config) -> None:
        path = folder / "tokenizer.json"
        data = read_json(path)
        last = config.text.vocab_size - 1
        try:
            added = {one["content"]: whole(one, "id", last, 0) for one in data.get("added_tokens") or ()}
            self._start, self._end = added["<|im_start|>"], added["<|im_end|>"]
            self._generate = (added["<|boi_token|>"], added["<|tms_token|>"])
        except KeyError as error:
            raise CheckpointError(f"{path} has no token {error.args[0]}") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path}: added_tokens: {error}") from error
        self._image = (config.vision_start_token_id, config.image_token_id, config.vision_end_token_id)
        try:
            self._plain = Tokenizer.from_str(json.dumps({**data, "added_tokens": [], "post_processor": None}))
        except Exception as error:  # tokenizers raises nothing narrower
            raise CheckpointError(f"{path}: {shown(str(error), 120)}") from error
        largest = max(self._plain.get_vocab().values(), default=0)
        if largest > last:  # MLX would read beyond the table
            raise CheckpointError(f"{path} has a token {largest}, config.json {last + 1} of them")

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

    def _text(self, text: str) -> list[int]:
        ids: list[int] = self._plain.encode(text, add_special_tokens=False).ids
        return ids
