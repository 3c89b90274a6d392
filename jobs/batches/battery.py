"""Ten kinds of picture at which models differ, as a batch: the same prompts and seeds for each engine."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import cast

from pixelkiln.jobs.catalogue import CATALOGUE
from pixelkiln.jobs.choice import Kind
from pixelkiln.jobs.errors import UsageError
from pixelkiln.jobs.fields import SpecFields
from pixelkiln.jobs.spec import MAX_SEED, Quantization

MOST_SEEDS = 100

# They look at skin, depth, lettering, counting, fingers, refraction, dark tones, line, layout, many faces.
GENRES = {
    "portrait": (
        "Photographic portrait of an elderly fisherman with weathered skin and a grey beard, looking into the"
        " camera, soft window light from the left, shallow depth of field, 85 mm"
    ),
    "landscape": (
        "A wide mountain valley at sunrise, mist over a winding river, a small stone bridge in the middle"
        " distance, pines on the near slope, snow on the far peaks"
    ),
    "lettering": (
        'A hand-painted shop sign above a green door that reads "BREAD & BOOKS", and on a chalkboard beside'
        ' the door in white chalk the words "open until seven"'
    ),
    "counting": (
        "A wooden table seen from above with exactly three red apples, four yellow lemons and two green"
        " pears, none of them touching another, plain light background"
    ),
    "hands": (
        "Close view of two hands folding a paper crane, all ten fingers visible, sharp creases in the white"
        " paper, daylight from a window"
    ),
    "glass": (
        "A half-full water glass and a silver kettle on a chequered tablecloth, the squares bent by the water"
        " and mirrored in the kettle, morning sun, clear shadows"
    ),
    "night": (
        "A rainy city street at night, neon reflected in puddles, one cyclist under a transparent umbrella,"
        " deep blacks, lit windows with detail in them"
    ),
    "illustration": (
        "Children's book illustration in ink and watercolour: a badger in a yellow raincoat reads a map under"
        " a large mushroom while a snail waits, loose lines, white paper at the edges"
    ),
    "diagram": (
        "A clean labelled diagram of a bicycle from the side on white, thin black lines, with the five labels"
        ' "saddle", "frame", "chain", "pedal" and "wheel", each joined to its part by a straight line'
    ),
    "crowd": (
        "A crowded market square from a first-floor balcony, more than fifty people of all ages, striped"
        " awnings, each face distinct, afternoon light"
    ),
}


def rows(
    engines: Iterable[str], seeds: Sequence[int], size: tuple[int, int] | None = None
) -> list[SpecFields]:
    """What to submit: every genre and seed for each engine (model or model:quantization), one after another.

    `size` (width, height) in pixels, else each model's own. Raises UsageError where there is no such engine.
    """
    found = []
    for kind in dict.fromkeys(map(_kind, engines)):
        for genre, prompt in GENRES.items():
            for seed in seeds:
                one: SpecFields = {
                    "prompt": prompt,
                    "model": kind.model,
                    "seed": seed,
                    "labels": {"genre": genre},
                }
                if kind.quantization:
                    one["quantization"] = cast(Quantization, kind.quantization)
                if size is not None:
                    one["width"], one["height"] = size
                found.append(one)
    return found


def parse_seeds(text: str) -> list[int]:
    """The seeds that '1', '1-8' or '1,5,9-12' names. Raises UsageError."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,16})\s*(?:-\s*(\d{1,16})\s*)?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last <= MAX_SEED:
            raise UsageError(f"--seeds: {text[:40]!r} names no seeds, for instance 1, 1-4 or 1,7")
        if len(found) + last - first >= MOST_SEEDS:
            raise UsageError(
                f"--seeds: {text[:40]!r} is more than {MOST_SEEDS}, of which each is ten pictures"
            )
        found += range(first, last + 1)
    return list(dict.fromkeys(found))


def _kind(text: str) -> Kind:
    try:
        kind = Kind.parse(text.strip())
    except ValueError as error:
        raise UsageError(f"--models: {error}") from None
    if CATALOGUE[kind.model].min_references:
        raise UsageError(f"--models: {kind.model} only edits pictures, and the battery has none")
    return kind
