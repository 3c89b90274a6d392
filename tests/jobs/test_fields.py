"""The fields that editors and mypy know of are the spec's."""

from __future__ import annotations

from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest

from pixelkiln import Box, BoxFields, RenderSpec, SpecFields


def bare(kind: Any) -> Any:
    """A type without what only pydantic reads in it."""
    if hasattr(kind, "__metadata__"):
        return bare(get_args(kind)[0])
    if get_origin(kind) in (dict, tuple):
        return get_origin(kind)[tuple(bare(one) if one is not ... else one for one in get_args(kind))]
    if get_origin(kind) in (Union, UnionType):
        first, *others = (bare(one) for one in get_args(kind))
        for other in others:
            first = first | other
        return first
    return kind


WIDER = {"references", "layout"}  # as a program may write them: paths, boxes as dicts, any sequence


@pytest.mark.parametrize(("fields", "model"), [(SpecFields, RenderSpec), (BoxFields, Box)])
def test_the_fields_are_the_specs(fields: Any, model: Any) -> None:
    typed = get_type_hints(fields)
    assert list(typed) == list(model.model_fields)
    for name, field in model.model_fields.items():
        assert field.is_required() is (name in fields.__required_keys__), name
        if name not in WIDER:
            assert typed[name] == bare(field.annotation), name
