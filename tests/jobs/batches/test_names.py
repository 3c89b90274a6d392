"""Names of pictures: what no disk refuses, and no two that are one on any."""

from __future__ import annotations

import csv
import io
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelkiln.jobs import RenderSpec
from pixelkiln.jobs.batches.names import DEFAULT, Template, file_names, index_csv

DEVICES = {"con", "prn", "aux", "nul", *(f"{one}{n}" for one in ("com", "lpt") for n in "123456789¹²³")}
SPECS = st.builds(
    lambda prompt, seed: RenderSpec.model_construct(prompt=prompt, seed=seed, labels={}),
    st.one_of(st.text(max_size=80), st.sampled_from(sorted(DEVICES)), st.text("aAéÉe\u0301ßsSſ", max_size=3)),
    st.integers(0, 2**53 - 1),
)


@settings(max_examples=80, deadline=None)
@given(
    specs=st.lists(SPECS, max_size=12),
    template=st.sampled_from([DEFAULT, "{prompt}", ". {prompt:9} .", "{seed}"]),
)
def test_every_disk_takes_every_name_and_tells_them_apart(specs: list[RenderSpec], template: str) -> None:
    names = file_names(Template.parse(template), [(n, "id", spec) for n, spec in enumerate(specs, 1)])
    for name in names:
        assert not set(name) & set('<>:"/\\|?* \0')
        assert not any(unicodedata.category(one) in ("Cc", "Cf", "Zl", "Zp", "Cs") for one in name)
        assert name == unicodedata.normalize("NFC", name)
        assert len(name.encode()) <= 200
        assert name[0] not in ".-"
        stem = name.removesuffix(".png")
        assert stem
        assert stem[-1] not in "."
        assert stem.partition(".")[0].casefold() not in DEVICES
    for fold in (str.casefold, str.upper, str.lower):
        assert len({fold(unicodedata.normalize("NFD", name)) for name in names}) == len(names)


def test_a_thousand_of_one_name_are_numbered() -> None:
    spec = RenderSpec(prompt="a fox", model="demo", seed=1)
    names = file_names(Template.parse("{prompt}"), [(n, "id", spec) for n in range(1000)])
    assert (names[0], names[1], names[-1]) == ("a-fox.png", "a-fox~2.png", "a-fox~1000.png")


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_no_mark_is_parted_from_its_letter(width: int) -> None:
    spec = RenderSpec(prompt="q\u0323\u0307" * 9, model="demo")
    (name,) = file_names(Template.parse(f"{{prompt:{width}}}"), [(1, "id", spec)])
    assert unicodedata.category(name[0])[0] == "L"
    assert len(name.removesuffix(".png")) % 3 == 0 or width < 3


def test_the_index_comes_back_as_it_was_written() -> None:
    first = RenderSpec(prompt='a "fox",\nred', model="demo", seed=5, labels={"set": "ä"})
    second = RenderSpec(prompt="قطة", model="demo", seed=0, steps=None)
    written = index_csv(
        [(1, "1.png", "finished", "a", first, ""), (2, "", "failed", "b", second, "no, not so")]
    )
    read = list(csv.DictReader(io.StringIO(written.decode("utf-8-sig"), newline="")))
    assert [(row["n"], row["file"], row["state"], row["id"], row["error"]) for row in read] == [
        ("1", "1.png", "finished", "a", ""),
        ("2", "", "failed", "b", "no, not so"),
    ]
    assert [(row["prompt"], row["seed"], row["steps"], row["label.set"]) for row in read] == [
        (first.prompt, "5", "", "ä"),
        (second.prompt, "0", "", ""),
    ]
    assert written.startswith(b"\xef\xbb\xbf")


def test_no_cell_of_the_index_is_computed() -> None:
    spec = RenderSpec(prompt="=1+1", model="demo", labels={"a": "@SUM(A1)", "b": "a=b"})
    written = index_csv([(1, "1.png", "failed", "a", spec, "-x")]).decode("utf-8-sig")
    (row,) = csv.DictReader(io.StringIO(written, newline=""))
    assert (row["prompt"], row["label.a"], row["label.b"], row["error"]) == (
        "'=1+1",
        "'@SUM(A1)",
        "a=b",
        "'-x",
    )
