"""What strangers wrote, made fit to be shown."""

from __future__ import annotations

import re

# Escape sequences begin with a control character; the others turn lines round or end them.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: str) -> str:
    """The text on one line, so that printing it only prints."""
    return _UNFIT.sub("\ufffd", text)
