"""Which model and quantization a job gets that leaves them out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Self

from pixelkiln.jobs.catalogue import CATALOGUE, DEFAULT_MODEL, QUANTIZATIONS

Takes = Callable[[Mapping[str, Any]], bool]  # whether a model and a quantization can render the job


@dataclass(frozen=True, slots=True)
class Kind:
    """A model, and what of it is wanted: `MODEL` or `MODEL:QUANTIZATION`."""

    model: str
    quantization: str = ""  # '': whichever is best

    def fields(self) -> dict[str, str]:
        """As fields of a spec."""
        return {"model": self.model, "quantization": self.quantization}

    @classmethod
    def parse(cls, text: str) -> Self:
        """The kind of that name. Raises ValueError for none of the catalogue's."""
        name, _, bits = text.partition(":")
        if name not in CATALOGUE:
            raise ValueError(f"no model {name[:60]!r}; there are {', '.join(CATALOGUE)}")
        if bits and bits not in CATALOGUE[name].quantizations:
            have = ", ".join(CATALOGUE[name].quantizations)
            raise ValueError(f"{name} has {have}, not {bits[:60]!r}")
        return cls(name, bits)

    @classmethod
    def checked(cls, text: str) -> str:
        """`text` where it names a kind. Raises ValueError."""
        cls.parse(text)
        return text


def choose(
    fields: Mapping[str, Any], preferred: str | None, served: Callable[[], Collection[str]], takes: Takes
) -> dict[str, str]:
    """The model and quantization of a job that leaves out one of them, or both.

    `preferred` is the settings' kind. Else it is what the living workers serve, each `model:quantization`:
    of several models the first in the catalogue that can render the job. `served` is asked only then.
    """
    named = {name: fields[name] for name in ("model", "quantization") if name in fields}
    if len(named) == 2 or not all(_is_known(name, value) for name, value in named.items()):
        return {}  # complete, or refused as it is
    kind = Kind(named.get("model", ""), named.get("quantization", ""))
    if not kind.model and preferred:
        usual = Kind.parse(preferred)
        kind = Kind(usual.model, kind.quantization or usual.quantization)
    if kind.model and kind.quantization:
        return kind.fields()
    offered = _by_model(served())
    if kind.model:
        return _completed(kind, offered).fields()
    with_bits = {name for name, have in offered.items() if kind.quantization in ("", *have)}
    names = [name for name in CATALOGUE if name in (with_bits or offered)] or [DEFAULT_MODEL]
    kinds = [_completed(Kind(name, kind.quantization), offered).fields() for name in names]
    return next(filter(takes, kinds), kinds[0])


def _is_known(name: str, value: object) -> bool:
    return isinstance(value, str) and value in (CATALOGUE if name == "model" else QUANTIZATIONS)


def _completed(kind: Kind, offered: Mapping[str, Collection[str]]) -> Kind:
    bits = kind.quantization or CATALOGUE[kind.model].preferred(offered.get(kind.model, ()))
    return Kind(kind.model, bits)


def _by_model(kinds: Collection[str]) -> dict[str, list[str]]:
    """Quantizations by model, of those that the catalogue has: strangers write what workers serve."""
    found: dict[str, list[str]] = {}
    for kind in kinds:
        name, _, bits = kind.partition(":")
        if name in CATALOGUE and bits in CATALOGUE[name].quantizations:
            found.setdefault(name, []).append(bits)
    return found
