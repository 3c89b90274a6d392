"""The report as a page, as Markdown and as JSON: whole, escaped, and in need of nothing."""

from __future__ import annotations

import base64
import io
import json
import re
from datetime import timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from pixelkiln import UsageError
from pixelkiln.jobs.batches.report.markdown import code, markdown, text
from pixelkiln.jobs.batches.report.markup import Html, tag
from pixelkiln.jobs.batches.report.page import page
from pixelkiln.jobs.batches.report.writing import report
from tests.jobs.batches.nights import ARABIC, SCRIPT, Night, change, spec

ZONE = timezone(timedelta(hours=1), "CET")
EMPTY = {"meta", "img", "br"}


class Read(HTMLParser):
    """A page as a browser takes it in: its elements, their attributes and what is text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == [], "every element ends"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.text.append(data)


@pytest.fixture
def night() -> Night:
    made = Night()
    made.add(spec(SCRIPT, labels={"x": "</dd><script>"}))
    made.add(spec(ARABIC))
    made.add(spec(SCRIPT), "failed")
    made.add(spec("an owl"), "cancelled")
    made.add(spec("a hare"), "waiting")
    dark = made.add(spec("a bat", seed=7))
    checks = made.kiln.sidecar(dark).checks.model_copy(update={"warnings": ["dark: <b>"]})
    change(made, dark, checks=checks)
    return made


def written(night: Night, path: Path, **how: object) -> str:
    report(night.kiln, "night", night.entries, path, zone=ZONE, **how)  # type: ignore[arg-type]
    return path.read_text("utf-8")


def test_what_a_prompt_says_is_text(night: Night, tmp_path: Path) -> None:
    read = Read(written(night, tmp_path / "night.html"))
    assert read.text.count(SCRIPT) == 2
    assert ARABIC in read.text
    assert {"script", "iframe", "link", "object"}.isdisjoint(name for name, _ in read.tags)
    assert not [names for _, names in read.tags if any(name.startswith("on") for name in names)]


def test_it_needs_nothing_beside_it(night: Night, tmp_path: Path) -> None:
    html = written(night, tmp_path / "night.html")
    read = Read(html)
    for name, attributes in read.tags:
        for address in (attributes.get("src"), attributes.get("href")):
            assert address is None or address.startswith(("data:image/webp;base64,", "#")), (name, address)
    assert "url(" not in html
    policy = next(a["content"] for _, a in read.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_each_picture_is_there_once_with_prompt_and_seed(night: Night, tmp_path: Path) -> None:
    read = Read(written(night, tmp_path / "night.html"))
    images = [attributes for name, attributes in read.tags if name == "img"]
    assert [image["alt"] for image in images] == ["Picture 6", "Picture 1", "Picture 2"]  # suspicious first
    small = Image.open(io.BytesIO(base64.b64decode(str(images[0]["src"]).partition(",")[2])))
    assert small.format == "WEBP"
    assert "dark: <b>" in read.text
    assert "kiln retry job-3" in read.text
    assert "out of memory; take a smaller size" in " ".join(read.text)


def test_thumbnails_open_pictures_that_were_brought_home(night: Night, tmp_path: Path) -> None:
    home = tmp_path / "was 50% #1"
    path = night.kiln.fetch("job-2", home)
    path.rename(home / "a:fox.png")
    (home / "job-2.json").rename(home / "a:fox.json")
    (home / "other.json").write_text("[]")
    read = Read(written(night, tmp_path / "reports" / "night.html", pictures=home))
    links = [a["href"] for name, a in read.tags if name == "a" and a.get("class") == "picture"]
    assert links == ["../was%2050%25%20%231/a%3Afox.png"]
    with pytest.raises(UsageError, match="no folder"):
        written(night, tmp_path / "night.html", pictures=tmp_path / "nowhere")


def test_totals_and_disagreements_are_on_the_page(night: Night, tmp_path: Path) -> None:
    night.kiln._memory.objects.clear()
    html = written(night, tmp_path / "night.html")
    words = " ".join(Read(html).text)
    assert "The bucket holds 0 pictures of this batch" in words
    assert "They disagree on 3 jobs" in words
    assert re.search(r"job-1.*Redis has it finished; the bucket has no picture of it", words)


def test_what_nobody_knows_is_sent_anew_by_its_batch(night: Night, tmp_path: Path) -> None:
    night.forget("job-3")
    words = " ".join(Read(written(night, tmp_path / "night.html")).text)
    assert "it was never sent" in words
    assert words.count("kiln retry --batch night") == 2
    assert "--failed" not in words


def test_an_empty_night_is_a_page_too() -> None:
    Read(page(Night().facts(), {}, {}, ZONE))


def test_engines_stand_side_by_side(tmp_path: Path) -> None:
    night = Night()
    for bits in ("bf16", "q8"):
        for seed in (1, 2):
            night.add(spec("a fox", seed=seed, quantization=bits, labels={"genre": "night"}))
    read = Read(written(night, tmp_path / "night.html"))
    assert next(a.get("class") for name, a in read.tags if name == "table") == "beside"
    assert sum(name == "img" for name, _ in read.tags) == 4
    assert "#pictures" not in [a.get("href") for _, a in read.tags]


def test_markup_is_made_and_never_read() -> None:
    assert tag("p", "<b>", Html("<i></i>"), title='"', hidden=False, open=True) == (
        '<p title="&quot;" open>&lt;b&gt;<i></i></p>'
    )
    assert tag("p", "\x00\ud800a\nb") == "<p>��a\nb</p>"


def test_markdown_says_what_was_written(night: Night) -> None:
    told = markdown(night.facts(), ZONE)
    assert "| 3 | 1 | 1 | 1 | 6 |" in told
    assert "<script" not in told.replace("\\<script", "")
    assert ARABIC not in told  # finished pictures are not listed
    assert "`kiln retry job-3`" in told
    rows = [line for line in told.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in rows)


@pytest.mark.parametrize(
    ("words", "as_text", "as_code"),
    [
        ("a|b", r"a\|b", "`a\\|b`"),
        ("`x`", r"\`x\`", "`` `x` ``"),
        ("a\nb", "a b", "`a\nb`"),
    ],
)
def test_markdown_of_odd_words(words: str, as_text: str, as_code: str) -> None:
    assert (text(words), code(words)) == (as_text, as_code)


def test_json_has_it_all(night: Night, tmp_path: Path) -> None:
    told = json.loads(written(night, tmp_path / "night.json", format="json"))
    assert told["totals"] == {"finished": 3, "failed": 1, "cancelled": 1, "waiting": 1}
    assert (told["rows"], told["bucket"], told["disagreements"]) == (6, 3, [])
    assert [job["state"] for job in told["jobs"]].count("finished") == 3
    assert told["jobs"][0]["spec"]["prompt"] == SCRIPT
    assert told["speeds"][0]["step"]["median"] == 1.0
    assert told["workers"][0]["pictures"] == 3
