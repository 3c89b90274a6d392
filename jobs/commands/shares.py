"""The options that say how many steps are cheap ones, in words: --fast and --draft."""

from __future__ import annotations

from typing import Annotated

import typer

from pixelkiln.jobs.catalogue import LARGE, SMALL

Fast = Annotated[
    bool,
    typer.Option(
        "--fast", help=f"{SMALL.fast} of 28 steps coarse; {LARGE.fast} from about twice the usual side on."
    ),
]
Draft = Annotated[
    bool,
    typer.Option(
        "--draft",
        help="To be recognised: {} steps, {} of them coarse; {} and {} as there.".format(
            *SMALL.draft, *LARGE.draft
        ),
    ),
]
