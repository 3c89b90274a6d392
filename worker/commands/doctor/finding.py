"""One thing that doctor looked at."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from pixelkiln.jobs.errors import KilnError


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    state: Literal["ok", "warning", "problem"]
    what: str
    found: str
    mend: str = ""

    @classmethod
    def of(cls, what: str, error: KilnError) -> Finding:
        """A problem in the words that every other command has for it."""
        found, _, mend = str(error).partition("; ")
        return cls("problem", what, found, mend)

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)
