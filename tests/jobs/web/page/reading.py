"""Reading a page as a strict reader would: what is not well-formed, or not allowed by its policy, is told."""

from __future__ import annotations

from html.parser import HTMLParser

import httpx

EMPTY = {"meta", "link", "img", "input", "br", "hr", "option"}  # of option the end may be left out
HTML = {"Accept": "text/html"}


class Page(HTMLParser):
    """What a page holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.ids: set[str] = set()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self._levels: list[int] = []
        self.feed(text)
        self.close()
        self.faults += [f"<{tag}> is not closed" for tag in self._open]
        self._check()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if len(found) != len(attrs):
            self.faults.append(f"<{tag}> has an attribute twice")
        if "style" in found or any(name.startswith("on") for name in found):
            self.faults.append(f"<{tag}> has style or a handler, which the policy forbids")
        if tag == "style" or (tag == "script" and not (found.get("src") or "").startswith("/static/")):
            self.faults.append(f"an inline <{tag}>, or one from elsewhere")
        for name in ("src", "href", "action"):
            if not (found.get(name) or "/").startswith(("/", "#")):
                self.faults.append(f"<{tag} {name}={found[name]!r}> leads elsewhere")
        if (one := found.get("id")) is not None:
            if one in self.ids:
                self.faults.append(f"id {one!r} twice")
            self.ids.add(one)
        if tag in {"h1", "h2", "h3", "h4"}:
            self._levels.append(int(tag[1]))
        if tag not in EMPTY:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in EMPTY:
            return
        if not self._open or self._open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.words.append(data.strip())

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        """Attributes of tags with these."""
        return [
            found
            for name, found in self.tags
            if name == tag and all(found.get(key.rstrip("_")) == value for key, value in wanted.items())
        ]

    @property
    def text(self) -> str:
        """Its words."""
        return "\n".join(self.words)

    def _check(self) -> None:
        before = 0
        for level in self._levels:
            if level > before + 1:
                self.faults.append(f"h{level} follows h{before}")
            before = level
        if self._levels.count(1) != 1:
            self.faults.append("not one h1")
        labels = {one.get("for") for one in self.all("label")}
        for tag in ("input", "select", "textarea"):
            for one in self.all(tag):
                free = one.get("type") in (
                    "hidden",
                    "checkbox",
                    "radio",
                )  # the last two stand in their labels
                if not free and one.get("id") not in labels and not one.get("aria-label"):
                    self.faults.append(f"<{tag} name={one.get('name')!r}> has no label")
        for tag, found in self.tags:
            for name in ("aria-labelledby", "aria-describedby", "for", "list"):
                for one in (found.get(name) or "").split():
                    if one not in self.ids:
                        self.faults.append(f"<{tag} {name}={one!r}> names nothing")
        if any("alt" not in one for one in self.all("img")):
            self.faults.append("a picture without alt")


def read(client: httpx.Client, path: str, status: int = 200) -> Page:
    """A page, without faults."""
    answer = client.get(path, headers=HTML)
    assert answer.status_code == status, (path, answer.status_code, answer.text[:500])
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    page = Page(answer.text)
    assert page.faults == [], path
    return page
