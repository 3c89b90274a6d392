"""tokenizer.json as text only: a control token typed in a prompt is plain text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from pixelkiln.worker.engines.checkpoints.files import read_json, shown, whole
from pixelkiln.worker.engines.engine import CheckpointError


class PlainTokenizer:
    """A folder's tokenizer, built without its added tokens; those of the names `control` are told by id.

    Raises CheckpointError for a file that lacks one, or names a token that a table of `vocabulary` rows has
    not.
    """

    def __init__(self, folder: Path, vocabulary: int, control: Sequence[str]) -> None:
        path = folder / "tokenizer.json"
        data = read_json(path)
        last = vocabulary - 1
        try:
            added = {one["content"]: whole(one, "id", last, 0) for one in data.get("added_tokens") or ()}
            self.control = tuple(added[name] for name in control)
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

    def __call__(self, text: str) -> list[int]:
        """The ids of a text."""
        ids: list[int] = self._plain.encode(text, add_special_tokens=False).ids
        return ids
