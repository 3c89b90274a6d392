"""The JSON Schema of what one model accepts."""

from __future__ import annotations

from typing import Any

from pixelkiln.jobs.catalogue import CATALOGUE, DEFAULT_MODEL, Model, Setting
from pixelkiln.jobs.spec import RenderSpec

Schema = dict[str, Any]


def schema_of(name: str | None = None) -> Schema:
    """The schema of a spec, of any model or of the one named: fields that it does not take are left out.

    Four things no schema says: that width times height is limited, which pictures are too narrow, how boxes
    lie, and that fewer steps take fewer coarse ones. Raises KeyError for a model that there is not.
    """
    schema: Schema = RenderSpec.model_json_schema()
    return schema if name is None else _narrowed(schema, CATALOGUE[name])


def _narrowed(schema: Schema, model: Model) -> Schema:
    fields: dict[str, Schema] = schema["properties"]
    fields["model"] = {"title": "Model", "const": model.name}
    usual = {} if "bf16" in model.quantizations else {"default": model.quantizations[0]}
    fields["quantization"] |= {"enum": list(model.quantizations)} | usual
    for side, default in zip(("width", "height"), model.size, strict=True):
        fields[side] |= {
            "default": default,
            "minimum": model.min_side,
            "maximum": model.max_side,
            "multipleOf": model.grid,
            "description": f"pixels; width times height is at most {model.max_pixels}",
        }
    for setting, kind in (("steps", "integer"), ("guidance", "number")):
        fields[setting] = _setting(setting, kind, getattr(model, setting))
    fields["references"] |= {"maxItems": model.max_references, "minItems": model.min_references}
    fields["coarse_steps"]["maximum"] = int(model.steps.default) - 1
    fields["labels"]["additionalProperties"] = False
    fields["layout"]["maxItems"] = model.max_references
    for extra in ("strength", "negative_prompt"):  # absent, rather than null
        fields[extra] = {"title": fields[extra]["title"], **fields[extra]["anyOf"][0]}
    taken = {
        "steps": model.steps.range,
        "guidance": model.guidance.range,
        "references": model.max_references,
        "keep_aspect": model.keep_aspect,
        "layout": model.layout,
        "blend_seams": model.seams,
        "coarse_steps": model.coarse,
        "strength": model.strength,
        "negative_prompt": model.negative_prompt,
    }
    schema["properties"] = {name: about for name, about in fields.items() if taken.get(name, True)}
    if not model.layout:
        del schema["$defs"]
    schema["title"] += f" for {model.name}"
    schema["required"] = ["prompt"] if model.name == DEFAULT_MODEL else ["prompt", "model"]
    if model.min_references:
        schema["required"] = [*schema["required"], "references"]
        del fields["references"]["default"]
    return schema | _together(model, fields)


def _setting(name: str, kind: str, setting: Setting) -> Schema:
    low, high = setting.range or (setting.default, setting.default)
    return {
        "title": name.capitalize(),
        "anyOf": [{"type": kind, "minimum": low, "maximum": high}, {"type": "null"}],
        "default": None,
        "description": f"absent: the recipe's own, {setting.default:g} unless the checkpoint has another",
    }


def _together(model: Model, fields: dict[str, Schema]) -> Schema:
    """What goes with what."""
    rules: list[Schema] = []
    found: Schema = {}
    if model.strength:
        fields["references"] |= {"minItems": 1}
        del fields["references"]["default"]
        found["dependentRequired"] = {"strength": ["references"], "references": ["strength"]}
    if model.keep_aspect:
        rules.append(
            {
                "if": {"properties": {"keep_aspect": {"const": True}}, "required": ["keep_aspect"]},
                "then": {
                    "properties": {"references": {"minItems": 1, "maxItems": 1}},
                    "required": ["references"],
                },
            }
        )
    if model.layout:
        boxed = {"properties": {"layout": {"minItems": 1}}, "required": ["layout"]}
        pictures = {"properties": {"references": {"minItems": 1}}, "required": ["references"]}
        rules.append({"if": boxed, "then": pictures})
    if model.coarse and model.max_references:
        coarse = {"properties": {"coarse_steps": {"minimum": 1}}, "required": ["coarse_steps"]}
        rules.append({"if": coarse, "then": {"properties": {"references": {"maxItems": 0}}}})
    if model.negative_prompt:
        unguided = {
            "properties": {"guidance": {"type": "number", "maximum": 1}},
            "required": ["guidance"],
        }
        rules.append({"if": unguided, "then": {"not": {"required": ["negative_prompt"]}}})
    return {**found, "allOf": rules} if rules else found
