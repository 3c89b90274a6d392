"""Walks the tables of docs/batches.md: each sample is read, or refused, as it says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pixelkiln.jobs import RenderSpec, UsageError
from pixelkiln.jobs.batches.names import DEFAULT, Template, file_names
from pixelkiln.jobs.batches.reading import FORMATS, read_rows
from pixelkiln.jobs.batches.rows import FaultyRowsError, Row
from pixelkiln.jobs.batches.sweeps import expand

PAGE = (Path(__file__).parents[3] / "docs/batches.md").read_text(encoding="utf-8")
FOLDER = Path("pictures")


def table(heading: str) -> Iterator[list[str]]:
    """The cells of the table below a heading, without their marks."""
    (below,) = re.findall(rf"^#+ {heading}\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in below.split("\n") if line.startswith("|")]
    for row in rows[2:]:
        cells = [cell.strip().replace("\\|", "|") for cell in row]
        yield [
            re.sub(r"^(refused: )?`(.*)`$", r"\1\2", one).replace("⏎", "\n").replace("⇥", "\t")
            for one in cells
        ]


def shown(row: Row) -> dict[str, Any]:
    fields = dict(row.fields)
    if "references" in fields:
        fields["references"] = [str(path.relative_to(FOLDER)) for path in fields["references"]]
    return fields


SAMPLES = [
    pytest.param(heading.lower(), *row, id=f"{heading} {number}")
    for heading in ("CSV", "TSV", "JSONL", "JSON", "YAML", "Text", "Sweeps")
    for number, row in enumerate(table(heading), 1)
]


@pytest.mark.parametrize(("kind", "sample", "told"), SAMPLES)
def test_each_sample_is_read_or_refused_as_the_page_says(kind: str, sample: str, told: str) -> None:
    read = outcome(f"night.{'yaml' if kind == 'sweeps' else kind}", sample.encode())
    if isinstance(read, str):
        assert told.startswith("refused: "), read
        assert read.startswith(told.removeprefix("refused: "))
    else:
        assert [shown(row) for row in read] == json.loads(told.replace("\n", "\\n"))


def outcome(name: str, data: bytes) -> list[Row] | str:
    """The rows, or the first line that tells what is wrong."""
    try:
        rows = expand(read_rows(name, data, FOLDER))
    except FaultyRowsError as error:
        return str(error.faults[0])
    except UsageError as error:
        return str(error)
    faults = [fault for row in rows for fault in row.faults]
    return str(faults[0]) if faults else rows


@pytest.mark.parametrize(("template", "prompts", "names"), list(table("Names")))
def test_pictures_are_called_as_the_page_says(template: str, prompts: str, names: str) -> None:
    jobs = [
        (number, "x", RenderSpec(prompt=prompt, model="demo", seed=5, labels={"set": "a"}))
        for number, prompt in enumerate(prompts.split("\n"), 1)
    ]
    if names.startswith("refused: "):
        with pytest.raises(UsageError) as caught:
            Template.parse(template)
        assert names == f"refused: {caught.value}"
    else:
        assert file_names(Template.parse(template), jobs) == names.split("\n")


def test_the_page_has_every_kind_and_the_default() -> None:
    kinds = {case.values[0] for case in SAMPLES}
    assert kinds == {*FORMATS, "sweeps"}
    assert f"by default `{DEFAULT}`" in PAGE
    for kind in kinds:
        told = [str(case.values[2]) for case in SAMPLES if case.values[0] == kind]
        assert any(one.startswith("refused") for one in told)
        assert not all(one.startswith("refused") for one in told)
