"""Plain text: a prompt a line, `#` before a comment; a line that is a JSON object is a job's fields."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pixelkiln.jobs.batches.formats.json_text import Bound, object_row
from pixelkiln.jobs.batches.formats.lines import filled
from pixelkiln.jobs.batches.rows import Fault, Place, Row
from pixelkiln.jobs.spec import MAX_PROMPT
from pixelkiln.jobs.visible import is_visible

_FLAG = "is another program's flag; the columns of a .csv say such things"
_CHOICE = "is another program's choice of words; `fill` in a .yaml makes one"
# What other programs read in a line of prompts, and these models would be told as words. Each looks at a
# character a few times at most, whatever the line holds.
_FOREIGN = [
    (re.compile(found, re.IGNORECASE), told)
    for found, told in (
        (r"(?:^|\s)--[a-z][\w-]*", _FLAG),
        (r"(?:^|\s)[—–](?:ar|v|s|seed|no|q|niji|iw|chaos|stylize|style|steps|w|h)\b", _FLAG),
        (r"(?:^|\s)-[a-z]\s?\d+(?:\.\d+)?(?=\s|$)", _FLAG),
        (r"<(?:lora|lyco|hypernet|ti|embedding):[^<>]*>", "is another program's; leave it out"),
        (r"\{[^{}|]*\|[^{}]*\}", _CHOICE),
        (r"\b__(?:(?!\b__)[\w/*-])+__\b", _CHOICE),
        (r"^(?://|;)", "begins no comment here; # does"),
        (r'^"[^"]*",?$', "is in quotes; leave them out"),
    )
]
_OBJECT = re.compile(r"""\{\s*(?:["'}]|$)""")
_LINE = re.compile(r"\S[^\n]*")


def read(text: str, folder: Path) -> Iterator[Row]:
    """A row for each line that holds a prompt; spaces around it do not count. Raises FaultyRowsError."""
    bound = Bound()
    for number, line in filled(text.replace("\r\n", "\n").replace("\r", "\n"), _LINE):
        prompt = line.rstrip()
        if prompt.startswith("#") or not is_visible(prompt):
            continue
        if _OBJECT.match(prompt):
            yield object_row(prompt, number, folder, bound)
        elif len(prompt) <= MAX_PROMPT and (fault := _foreign(prompt)):
            yield Row({}, Place(number), (Fault(Place(number), fault),))
        else:
            yield Row({"prompt": prompt}, Place(number))


def _foreign(prompt: str) -> str:
    """What is another program's in a prompt; '' for nothing."""
    for what, told in _FOREIGN:
        if found := what.search(prompt):
            return f"{found[0].strip()[:40]} {told}; if the prompt is meant so, write it in a .csv or .jsonl"
    return ""
