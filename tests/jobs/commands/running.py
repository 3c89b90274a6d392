"""What a command in this process came to."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


class Ran:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]
