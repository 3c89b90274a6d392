"""The command line `kiln`: one typer application, which every module of commands adds to."""

from __future__ import annotations

import typer

app = typer.Typer(
    name="kiln",
    help="Renders pictures on your own Macs, overnight, without watching.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
