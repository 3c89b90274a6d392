"""Whether a text shows anything: what shells, pages and keyboards slip in shows nothing."""

from __future__ import annotations

import re
import unicodedata

# Letters, symbols and places of no glyph, whose categories are those of letters, symbols and nothing at all.
_BLANK = re.compile(
    "[\u115f\u1160\u2065\u2800\u3164\uffa0\ufff0-\ufff8\U0001d159\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_NOTHING = {"Cc", "Cf", "Zs", "Zl", "Zp", "Mn", "Me"}  # controls, formats, spaces; marks on no letter
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")


def is_visible(text: str) -> bool:
    """Whether a character of it has a glyph of its own."""
    return any(unicodedata.category(one) not in _NOTHING and not _BLANK.match(one) for one in text)


def is_one_word(text: str) -> bool:
    """Whether it is one word, of a script that has spaces between words."""
    return len(text.split()) == 1 and not any(unicodedata.name(one, "").startswith(_UNSPACED) for one in text)
