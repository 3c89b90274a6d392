"""What `kiln schema --model NAME` prints is what a spec of that model may be, both ways."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelkiln.jobs import RenderSpec, SpecError
from pixelkiln.jobs.catalogue import CATALOGUE, QUANTIZATIONS, Model
from pixelkiln.jobs.schema import schema_of

SHA = "0123456789abcdef" * 4
BOX = {"x1": 0.1, "x2": 0.5, "y1": 0.1, "y2": 0.5}
TYPES: dict[str, Any] = {"integer": int, "string": str, "array": list, "object": dict, "boolean": bool}
NOTHING: dict[str, Any] = {"keep_aspect": False, "layout": [], "blend_seams": 0, "coarse_steps": 0}
KNOWN = """
title description default $defs $ref type const enum minimum maximum exclusiveMinimum multipleOf minLength
maxLength pattern items minItems maxItems properties required additionalProperties patternProperties
maxProperties dependentRequired anyOf allOf if then not
"""


def is_type(value: Any, kind: str) -> bool:
    if kind == "null":
        return value is None
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def holds(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """Whether a value is what a schema says: those words of JSON Schema that ours use."""
    assert schema.keys() <= set(KNOWN.split())
    if "$ref" in schema:
        return holds(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    checks = [
        "type" not in schema or is_type(value, schema["type"]),
        "const" not in schema or value == schema["const"],
        "enum" not in schema or value in schema["enum"],
        "anyOf" not in schema or any(holds(value, one, root) for one in schema["anyOf"]),
        all(holds(value, one, root) for one in schema.get("allOf", ())),
        "if" not in schema or not holds(value, schema["if"], root) or holds(value, schema["then"], root),
        "not" not in schema or not holds(value, schema["not"], root),
    ]
    if is_type(value, "number"):
        checks += [
            value >= schema.get("minimum", value),
            value <= schema.get("maximum", value),
            "exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"],
            value % schema.get("multipleOf", 1) == 0 or "multipleOf" not in schema,
        ]
    if isinstance(value, str):
        checks += [
            schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)),
            "pattern" not in schema or re.search(schema["pattern"], value),
        ]
    if isinstance(value, list):
        checks += [
            schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)),
            all(holds(one, schema.get("items", {}), root) for one in value),
        ]
    if isinstance(value, dict):
        checks.append(len(value) <= schema.get("maxProperties", len(value)))
        checks.append(all(name in value for name in schema.get("required", ())))
        for name, others in schema.get("dependentRequired", {}).items():
            checks.append(name not in value or all(other in value for other in others))
        for name, one in value.items():
            patterns = [s for p, s in schema.get("patternProperties", {}).items() if re.search(p, name)]
            about = [schema["properties"][name]] if name in schema.get("properties", {}) else patterns
            checks += [holds(one, each, root) for each in about]
            checks.append(bool(about) or schema.get("additionalProperties", True) is not False)
    return all(map(bool, checks))


def parses(fields: dict[str, Any]) -> str:
    """Why a spec is refused; '' where it is not."""
    try:
        RenderSpec.parse(json.dumps(fields))
    except SpecError as error:
        return str(error)
    return ""


def agrees(fields: dict[str, Any], model: Model) -> None:
    """Parsing and schema take the same, but for what no schema says."""
    schema, told = schema_of(model.name), parses(fields)
    if not re.search(
        r"pixels; the limit is|boxes for|a box needs|are too many|is empty|steps take 0 to", told
    ):
        # A field that says nothing is taken of every model; its schema leaves it out.
        known = schema["properties"]
        said = {name: one for name, one in fields.items() if name in known or one != NOTHING.get(name, ())}
        assert holds(said, schema, schema) == (not told), told or "parsed"


MODELS = pytest.mark.parametrize("model", list(CATALOGUE.values()), ids=list(CATALOGUE))


def least(model: Model) -> dict[str, Any]:
    """A job of it that asks for nothing."""
    references = {"references": [SHA] * model.min_references} if model.min_references else {}
    return {"prompt": "a fox", "model": model.name, **references}


@MODELS
def test_each_field_alone(model: Model) -> None:
    edges = {
        side: [
            model.min_side,
            model.min_side - 1,
            model.grid * 20,
            model.grid * 20 + 1,
            9600,
        ]
        for side in ("width", "height")
    }
    numbers = [-1, 0, 0.5, 1, 1.5, 2, 3, 4, 8, 20, 21, 50, 51, 100, 101]
    tried: dict[str, list[Any]] = {
        **edges,
        "quantization": [*QUANTIZATIONS, "q3"],
        "steps": [one for one in numbers if one == int(one)],
        "guidance": numbers,
        "coarse_steps": [-1, 0, 1, 27, 28, 99, 100],
        "strength": [0, 0.1, 1, 1.1, -1],
        "negative_prompt": ["", " ", "a hat", 5],
        "keep_aspect": [True],
        "blend_seams": [1, 8, 9],
        "layout": [[BOX]],
        "references": [[SHA] * count for count in range(1, 12)] + [["x"]],
        "colour": ["red"],
        "model": ["none", *CATALOGUE],
        "seed": [None, 0, -1],
        "labels": [{"a": "b"}, {"A": "b"}],
    }
    agrees(least(model), model)
    for name, values in tried.items():
        for value in values:
            fields = {**least(model), name: value}
            if name == "model" and value != model.name:
                assert not holds(fields, schema_of(model.name), schema_of(model.name))
            else:
                agrees(fields, model)
                agrees({**fields, "references": [SHA], name: value}, model)
                agrees({**fields, "references": [SHA], "strength": 0.5, name: value}, model)


OPTIONS = {
    "quantization": st.sampled_from([*QUANTIZATIONS, "q3"]),
    "width": st.integers(0, 600).map(lambda n: 16 * n) | st.integers(0, 9000),
    "height": st.integers(0, 600).map(lambda n: 16 * n),
    "steps": st.integers(-1, 120),
    "guidance": st.floats(-1, 25) | st.sampled_from([0, 1, 4]),
    "references": st.integers(1, 11).map(lambda count: [SHA] * count),
    "coarse_steps": st.integers(-1, 30),
    "strength": st.floats(-0.5, 1.5),
    "negative_prompt": st.text("ab ", max_size=4),
    "keep_aspect": st.booleans(),
    "layout": st.integers(0, 3).map(lambda count: [BOX] * count),
    "blend_seams": st.integers(-1, 10),
    "seed": st.integers(-1, 5),
}


@MODELS
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_fields_together(model: Model, data: st.DataObject) -> None:
    drawn = data.draw(st.fixed_dictionaries({}, optional=OPTIONS))
    agrees({**least(model), **drawn}, model)


def test_what_a_model_has_not_is_absent() -> None:
    fields = {name: set(schema_of(name)["properties"]) for name in CATALOGUE}
    assert not {"guidance", "strength", "negative_prompt"} & fields["hidream-o1-dev"]
    assert {"steps", "coarse_steps"} <= fields["hidream-o1-dev"]
    assert {name for name in CATALOGUE if "coarse_steps" in fields[name]} == {
        "hidream-o1-dev",
        "hidream-o1-dev-2604",
        "demo",
    }
    assert {"strength", "references", "steps"} <= fields["z-image-turbo"]
    assert not {"negative_prompt", "guidance", "layout", "keep_aspect"} & fields["z-image-turbo"]
    assert {"guidance", "references"} <= fields["flux2-klein-base-4b"]
    assert "guidance" not in fields["flux2-klein-4b"]
    assert {"negative_prompt", "guidance"} <= fields["qwen-image"]
    assert "references" not in fields["qwen-image"]
    assert "references" in schema_of("qwen-image-edit-2511")["required"]
    assert schema_of() == RenderSpec.model_json_schema()
