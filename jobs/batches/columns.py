"""Names of fields as people write them, and what stands under them, as a spec has it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from pixelkiln.jobs.batches.rows import MAX_DEPTH, MAX_FIELDS, Fault, Place, Row
from pixelkiln.jobs.batches.seeds import parse_seeds
from pixelkiln.jobs.errors import UsageError
from pixelkiln.jobs.hints import glimpse, nearest
from pixelkiln.jobs.spec import SHA256_PATTERN, RenderSpec

PLACE = re.compile(r"\{([^{}\n]{1,60})\}")  # in a text
SIZE = re.compile(r"\s*(\d{1,6})\s*[xX×*]\s*(\d{1,6})\s*")
_OTHERS = {
    "ref": "references",
    "refs": "references",
    "reference": "references",
    "label": "labels",
    "box": "layout",
    "boxes": "layout",
}
_FAMILIES = ("labels", "fill")  # whose members may be columns: label.x, fill.x
_TRUE, _FALSE = {"true", "yes", "1"}, {"false", "no", "0"}
_INTEGER = re.compile(r"[+-]?\d{1,30}(\.0+)?")
_ROUNDED = re.compile(r"[+-]?\d(\.\d+)?[eE]\+?\d+")


@cache
def kinds() -> dict[str, str]:
    """Each field of a spec, and the kind of its value as JSON Schema calls it."""
    about = RenderSpec.model_json_schema()["properties"]
    return {name: (one.get("anyOf") or [one])[0].get("type", "string") for name, one in about.items()}


def is_single(name: str) -> bool:
    """Whether a field holds one value, so that a list under it means one job for each."""
    return name == "size" or kinds().get(name) not in ("array", "object", None)


@lru_cache(10_000)
def meant(name: str) -> tuple[str, str]:
    """The field that a name means, and the member of it, for `label.x`. Raises UsageError for none."""
    plain_name = re.sub(r"[\s_-]+", "_", name.strip()).casefold()
    family, dot, member = plain_name.partition(".")
    family = _OTHERS.get(family.strip("_"), family.strip("_"))
    if dot and family in _FAMILIES and member.strip("_"):
        return family, member.strip("_") if family == "labels" else name.partition(".")[2].strip()
    for one in (plain_name, _OTHERS.get(plain_name, ""), plain_name.removesuffix("s")):
        if one in kinds() or one in ("size", "fill"):
            return one, ""
    near = nearest(plain_name, [*kinds(), "size", "fill", *_OTHERS])
    keep = re.sub(r"[^a-z0-9_-]+", "_", plain_name).strip("_") or "name"
    told = f"did you mean {near}?" if near else f"label.{keep} would keep it"
    raise UsageError(f"no such field; {told}")


def row_of(fields: Mapping[str, Any], line: int | None, folder: Path, *, cells: bool = False) -> Row:
    """One row, its names a spec's, with what is at fault in it; `cells` are text, read as its fields are."""
    if _is_deeper(fields, MAX_DEPTH):
        return Row({}, Place(line), (Fault(Place(line), f"is more than {MAX_DEPTH} levels deep"),))
    return row_of_pairs(fields.items(), line, folder, cells=cells)


def _is_deeper(value: Any, levels: int) -> bool:
    within = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else None
    return within is not None and (levels == 0 or any(_is_deeper(one, levels - 1) for one in within))


def row_of_pairs(
    pairs: Iterable[tuple[str, Any]], line: int | None, folder: Path, *, cells: bool = False
) -> Row:
    """As row_of, of names that may come again: `ref` in several columns."""
    found: dict[str, Any] = {}
    came: dict[str, str] = {}  # by field, the name under which it came
    faults: list[Fault] = []
    given = list(pairs)
    if len(given) > MAX_FIELDS:
        told = f"has {len(given):,} fields; a row has {MAX_FIELDS:,} at most"
        return Row({}, Place(line), (Fault(Place(line), told),))
    for name, value in given:
        column = str(name).strip()[:60]
        try:
            field, member = meant(str(name)[:200])
            again = cells and field in ("references", "layout")
            sides = ("width.", "height.") if field == "size" else (f"{field}.{member}",)
            if said := next((came[one] for one in sides if one in came and not again), ""):
                raise UsageError(f"says again what {said} says; keep one of them")
            came |= dict.fromkeys(sides, column)
            value = _settled(field, value, column.casefold() == "seeds", cells)
            if again:
                found.setdefault(field, []).append(value)
            elif field in _FAMILIES:
                new, before = {member: value} if member else value, found.get(field, {})
                found[field] = before | new if isinstance(before, dict) and isinstance(new, dict) else value
            elif field == "size" and isinstance(value, dict):
                found |= value
            else:
                found[field] = value
        except UsageError as error:
            faults.append(Fault(Place(line, column), str(error)))
    if "references" in found and not faults:
        try:
            found["references"] = _paths(found["references"], folder)
        except UsageError as error:
            faults.append(Fault(Place(line, came["references."]), str(error)))
    return Row(found, Place(line), tuple(faults))


def over(defaults: Row, row: Row) -> Row:
    """The row, with what the defaults say where it says nothing; labels and fillings are added up."""
    base = dict(defaults.fields)
    if "size" in row.fields:
        base = {name: value for name, value in base.items() if name not in ("width", "height")}
    elif {"width", "height"} & row.fields.keys():
        base.pop("size", None)
    fields = base | row.fields
    for family in _FAMILIES:
        usual, own = base.get(family), row.fields.get(family)
        nothing = family == "fill" and own == {}  # is to be filled here
        if isinstance(usual, dict) and isinstance(own, dict) and not nothing:
            fields[family] = usual | own
    faults = row.faults
    if isinstance(fill := fields.get("fill"), dict) and fill:
        names = {name for text in texts(fields) for name in PLACE.findall(text)}
        if fault := unfilled(sorted(names), fill):
            faults = (*faults, Fault(Place(row.place.line, "prompt"), fault))
        own = (
            row.fields.get("fill") or {}
        )  # of a default's, those that this row has no place for are left out
        fields["fill"] = {name: words for name, words in fill.items() if name in own or name in names}
    return Row(fields, row.place, faults)


def texts(fields: Mapping[str, Any]) -> list[str]:
    """The texts of a row in which placeholders are filled."""
    labels = fields.get("labels")
    values = [fields.get("prompt"), fields.get("negative_prompt")]
    values += labels.values() if isinstance(labels, dict) else []
    return [
        one
        for value in values
        for one in (value if isinstance(value, list) else [value])
        if isinstance(one, str)
    ]


def unfilled(names: Iterable[str], fill: Collection[str]) -> str:
    """What is wrong where one of these placeholders is not among those that are filled; '' for nothing."""
    for name in names:
        if name not in fill and re.fullmatch(r"\w[\w -]*", name):
            near = nearest(name, fill)
            told = f"did you mean {{{near}}}?" if near else "add it to fill, or give this row fill: {}"
            return f"{{{name}}} is filled from nothing; {told}"
    return ""


def parse_size(value: object) -> dict[str, int]:
    """Width and height of `512x768`. Raises UsageError."""
    found = SIZE.fullmatch(value) if isinstance(value, str) else None
    if not found:
        raise UsageError(f"{glimpse(value)[:60]} is not WIDTHxHEIGHT, for instance 1024x1024")
    return {"width": int(found[1]), "height": int(found[2])}


def _settled(field: str, value: Any, plural: bool, cells: bool) -> Any:
    """What stands under a field: sizes as sides, seeds as numbers, a cell by its field. Raises UsageError."""
    if field == "seed" and plural:
        return parse_seeds(value)
    if field == "size":
        return [parse_size(one) for one in value] if isinstance(value, list) else parse_size(value)
    return _read(field, value) if cells else value


def _read(field: str, cell: str) -> Any:
    """What a cell says, by the kind of its field. Raises UsageError."""
    kind, text = kinds().get(field, "string"), cell.strip()
    if field in ("prompt", "negative_prompt", *_FAMILIES):
        return cell
    if kind == "integer":
        if _INTEGER.fullmatch(text):
            return int(text.partition(".")[0])
        raise UsageError(f"must be a whole number, not {glimpse(text)[:60]}{_meant_number(text)}")
    if kind == "number":
        try:
            return float(text) if re.fullmatch(r"[+-]?[\d.]+([eE][+-]?\d+)?", text) else _no_number(text)
        except ValueError:
            _no_number(text)
    if kind == "boolean":
        if text.casefold() not in _TRUE | _FALSE:
            raise UsageError(f"must be true or false, not {glimpse(text)[:60]}")
        return text.casefold() in _TRUE
    if field == "layout":
        return _box(text)
    return text


def _no_number(text: str) -> float:
    raise UsageError(f"must be a number, not {glimpse(text)[:60]}{_meant_number(text)}")


def _meant_number(text: str) -> str:
    if _ROUNDED.fullmatch(text):
        return ", as spreadsheets round long numbers; format the column as text and write all digits"
    if re.fullmatch(r"[+-]?\d+,\d+", text):
        return f"; write {text.replace(',', '.')}, or {text.replace(',', '')} if it counts thousands"
    return "; leave the cell empty for none" if text.casefold() in ("none", "null", "nan", "n/a", "-") else ""


def _box(text: str) -> Any:
    try:
        if text.startswith("{"):
            return json.loads(text)
        x1, x2, y1, y2 = (float(part) for part in text.split(","))
    except (ValueError, RecursionError):
        raise UsageError(f"{glimpse(text)[:60]} is not X1,X2,Y1,Y2, for instance 0.1,0.5,0.2,0.9") from None
    return {"x1": x1, "x2": x2, "y1": y1, "y2": y2}


def _paths(value: Any, folder: Path) -> Any:
    """Pictures beside the file as paths; names of uploaded ones stay."""
    if isinstance(value, list | tuple):
        return [_paths(one, folder) if isinstance(one, list) else _path(one, folder) for one in value]
    return [_path(value, folder)]


def _path(value: Any, folder: Path) -> Any:
    if not isinstance(value, str) or re.fullmatch(SHA256_PATTERN, value):
        return value
    text = value.strip()
    if not text or "\0" in text:
        raise UsageError("names no picture")
    if re.match(r"[a-z]+://", text, re.IGNORECASE):
        raise UsageError(f"{glimpse(text)[:60]} is an address; bring the picture home and name its file")
    return folder / text
