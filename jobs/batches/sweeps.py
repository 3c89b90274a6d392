"""Rows that stand for several jobs: lists of values, and placeholders that are filled from lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from math import prod
from typing import Any

from pixelkiln.jobs.batches.columns import PLACE, is_single, kinds, texts, unfilled
from pixelkiln.jobs.batches.rows import MAX_FIELDS, MAX_JOBS, Fault, Place, Row
from pixelkiln.jobs.errors import UsageError
from pixelkiln.jobs.spec import MAX_PROMPT


def expand(rows: Iterable[Row]) -> list[Row]:
    """A row for each job: a list under a field means one job for each of its values.

    Prompts vary slowest, then what fills their placeholders, then the other fields as they are written; the
    last varies fastest. A field that holds a list itself (`ref`) is varied by a list of lists.
    Rows at fault come through, and those that cannot be expanded with what is at fault.
    Raises UsageError for more than MAX_JOBS, before any is made.
    """
    plans = [_plan(row) for row in rows]
    count = sum(one.count if isinstance(one, _Plan) else 1 for one in plans)
    if count > MAX_JOBS:
        raise UsageError(f"the rows are {count:,} jobs when expanded; a file has {MAX_JOBS:,} at most")
    return [row for plan in plans for row in (plan.rows() if isinstance(plan, _Plan) else [plan])]


class _Plan:
    """What a row expands to."""

    def __init__(self, row: Row) -> None:
        self._row = row
        fields = dict(row.fields)
        self._fill = _filling(fields.pop("fill", None))
        prompts = fields.get("prompt")
        axes = {name: value for name, value in fields.items() if _varies(name, value)}
        for name, values in axes.items():
            if not values:
                raise _At(name, "is an empty list")
        self._bound(fields, axes)
        self._prompts = axes.pop("prompt", [prompts])
        self._axes = axes
        self._fixed = {name: value for name, value in fields.items() if name not in axes}
        # which placeholders each prompt has, with those of the row's other texts
        others = self._names([one for text in texts({**fields, "prompt": ""}) for one in PLACE.findall(text)])
        self._filled = [
            self._names([*(PLACE.findall(one) if isinstance(one, str) else ()), *others])
            for one in self._prompts
        ]
        unused = self._fill.keys() - {name for names in self._filled for name in names}
        if unused:
            raise _At("fill", f"{{{min(unused)}}} stands in no text of this row")
        rest = prod(map(len, axes.values()))
        self.count = rest * sum(prod(len(self._fill[name]) for name in names) for names in self._filled)

    def _bound(self, fields: dict[str, Any], axes: dict[str, list[Any]]) -> None:
        """Refuse what would be long in each of many jobs, before there are any."""
        for name, value in fields.items():
            for one in axes.get(name, [value]):
                if isinstance(one, list | dict) and len(one) > MAX_FIELDS:
                    raise _At(name, f"holds {len(one):,}; {MAX_FIELDS:,} are the most")
        longest = {name: max(map(len, words)) for name, words in self._fill.items()}
        for text in texts(fields):
            if len(text) + sum(longest.get(name, 0) for name in PLACE.findall(text)) > 2 * MAX_PROMPT:
                raise _At("prompt", f"a text of this row is far beyond {MAX_PROMPT:,} characters")

    def _names(self, found: list[str]) -> list[str]:
        """The placeholders among those found that are filled, each once."""
        if self._fill and (fault := unfilled(found, self._fill)):
            raise _At("prompt", fault)
        return [name for name in dict.fromkeys(found) if name in self._fill]

    def rows(self) -> Iterator[Row]:
        """The rows, one a job."""
        for prompt, names in zip(self._prompts, self._filled, strict=True):
            for words in product(*(self._fill[name] for name in names)):
                said = dict(zip(names, words, strict=True))
                for values in product(*self._axes.values()):
                    fields = dict(self._fixed)
                    if "prompt" in fields:
                        fields["prompt"] = prompt
                    for name, value in zip(self._axes, values, strict=True):
                        fields |= value if name == "size" else {name: value}
                    yield Row(_said(fields, said) if said else fields, self._row.place)


class _At(Exception):  # noqa: N818 - caught where it is raised
    def __init__(self, column: str, message: str) -> None:
        self.column, self.message = column, message


def _plan(row: Row) -> _Plan | Row:
    """The plan of a row; the row itself where it is one job, or at fault."""
    if row.faults or not ("fill" in row.fields or any(_varies(*one) for one in row.fields.items())):
        return row
    try:
        return _Plan(row)
    except _At as fault:
        return Row(row.fields, row.place, (Fault(Place(row.place.line, fault.column), fault.message),))


def _varies(name: str, value: Any) -> bool:
    if not isinstance(value, list):
        return False
    return is_single(name) or (
        kinds().get(name) == "array" and bool(value) and all(isinstance(one, list) for one in value)
    )


def _filling(fill: Any) -> dict[str, list[str]]:
    """The words for each placeholder."""
    if not isinstance(fill, dict | None):
        raise _At("fill", "must be names, each with its list of words")
    found = {}
    if len(fill or ()) > MAX_FIELDS:
        raise _At("fill", f"holds {len(fill or ()):,}; {MAX_FIELDS:,} are the most")
    for name, words in (fill or {}).items():
        words = words if isinstance(words, list) else [words]
        if not words or not all(isinstance(word, str | int) and not isinstance(word, bool) for word in words):
            raise _At(f"fill.{str(name)[:40]}", "must be a list of words; put others in quotes")
        found[str(name)] = [str(word) for word in words]
    return found


def _said(fields: dict[str, Any], said: dict[str, str]) -> dict[str, Any]:
    """The fields, placeholders in their texts filled, once: what is filled in may have braces."""

    def filled(text: Any) -> Any:
        if not isinstance(text, str):
            return text
        return PLACE.sub(lambda one: said.get(one[1], one[0]), text)

    both = {"prompt", "negative_prompt"} & fields.keys()
    found: dict[str, Any] = {name: filled(fields[name]) for name in both}
    if isinstance(fields.get("labels"), dict):
        found["labels"] = {name: filled(text) for name, text in fields["labels"].items()}
    return fields | found
