"""HTML that is escaped by being made: text is text, whoever wrote it, and only elements are markup."""

from __future__ import annotations

import html
import re

# What HTML has no place for; a bidirectional override stays within its element, which isolates it.
_UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_EMPTY = {"img", "meta", "br", "rect", "line"}  # elements that hold nothing


class Html(str):
    """Markup that was made here, and goes into other markup as it is."""

    __slots__ = ()


def tag(name: str, /, *inside: str | None, **attributes: str | int | float | bool | None) -> Html:
    """An element. What is no Html in it is text and is escaped, as values of attributes are.

    Attributes: `_` is written `-`, and one at the end dropped (`class_`); False and None are left out.
    """
    written = "".join(
        f" {_name(key)}" if value is True else f' {_name(key)}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _EMPTY:
        return Html(f"<{name}{written}>" if name in ("img", "meta", "br") else f"<{name}{written}/>")
    return Html(f"<{name}{written}>{join(*inside)}</{name}>")


def join(*parts: str | None) -> Html:
    """Parts one after the other, those that are no Html escaped."""
    return Html("".join(part if isinstance(part, Html) else escape(part) for part in parts if part))


def escape(text: str) -> str:
    """Text as it stands in HTML, between tags or in quotes."""
    return html.escape(_UNFIT.sub("\ufffd", text))


def _name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")
