"""The commands of the HTTP server: to run it, and to say who may."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from pixelkiln.jobs.commands.app import app
from pixelkiln.jobs.commands.output import JSON, LogJson, err, out, print_json, print_table
from pixelkiln.jobs.errors import NotReadyError, UsageError
from pixelkiln.jobs.logs import JsonLines
from pixelkiln.jobs.settings import Settings

if TYPE_CHECKING:
    from pixelkiln.jobs.web.tokens import Tokens

File = Annotated[
    Path | None, typer.Option("--tokens", help="File of tokens; absent: tokens.json in KILN_HOME.")
]
token = typer.Typer(help="Make and revoke the tokens that `kiln serve` asks for.", no_args_is_help=True)
app.add_typer(token, name="token")


def needs_serve() -> None:
    """Raise NotReadyError, with the command that installs them, where the server's packages are not there."""
    needed = ("fastapi", "uvicorn", "prometheus_client")
    if any(importlib.util.find_spec(name) is None for name in needed):
        raise NotReadyError("this needs the server's packages; run: pip install 'pixelkiln[serve]'")


@app.command()
def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; beyond this machine with tokens alone.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port, 0 for any; absent: 8765.", min=0, max=65535)] = None,
    cert: Annotated[Path | None, typer.Option(help="Certificate chain, PEM: HTTPS.")] = None,
    key: Annotated[Path | None, typer.Option(help="Its key, where it is not in the same file.")] = None,
    tokens: File = None,
    log_json: LogJson = False,
) -> None:
    """Serve the HTTP API and the page, until Ctrl-C. It holds no state: any number may run."""
    needs_serve()
    from pixelkiln.jobs.web.server import address, bind, is_loopback, server, tokens_of

    given = {"serve_host": host, "serve_port": port, "serve_cert": cert, "serve_key": key, "tokens": tokens}
    told = {name: value for name, value in given.items() if value is not None}
    settings = Settings.load().model_copy(update=told)
    if settings.serve_key is not None and settings.serve_cert is None:
        raise UsageError("--key: needs --cert")
    there, tls = bool(tokens_of(settings).all()), settings.serve_cert is not None
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if log_json or settings.log == "json":
        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonLines())
    with bind(settings.serve_host, settings.serve_port) as bound:
        if not is_loopback(bound):
            _beyond(settings.serve_host, there, tls)
        where = address(bound, tls=tls)

        def listening() -> None:
            err.print(f"kiln: {where}  ({'with tokens' if there else 'no tokens: this machine alone'})")

        server(settings, bound, listening=listening).run(sockets=[bound])


def _beyond(host: str, tokens: bool, tls: bool) -> None:
    """What goes for an address that others reach. Raises UsageError."""
    if not tokens:
        raise UsageError(f"--host {host}: others reach it there; make a token first: kiln token new NAME")
    if not tls:
        err.print(
            "kiln: without --cert tokens and pictures can be read on the way; put a proxy before it that"
            " speaks HTTPS (docs/http.md)",
            soft_wrap=True,
        )


@token.command("new")
def new(
    name: Annotated[str, typer.Argument(help="What it is called, to revoke it by.")],
    client: Annotated[
        str | None, typer.Option(help="As whom it acts; absent: KILN_CLIENT's, or default.")
    ] = None,
    admin: Annotated[
        bool, typer.Option("--admin", help="It sees every client's jobs and may order.")
    ] = False,
    tokens: File = None,
) -> None:
    """Make a token and print it, this once."""
    print(_tokens(tokens).make(name, client or Settings.load().client, admin=admin))


@token.command("list")
def listed(tokens: File = None, as_json: JSON = False) -> None:
    """List the tokens by name; what they are is not known here."""
    found = _tokens(tokens).all()
    if as_json:
        print_json([one.model_dump(exclude={"salt", "hash"}) for one in found])
        return
    table = Table("token", "client", "", "made")
    for one in found:
        table.add_row(one.name, one.client, "admin" if one.admin else "", one.created)
    print_table(table) if found else err.print("kiln: there are none; make one with: kiln token new NAME")


@token.command()
def revoke(names: Annotated[list[str], typer.Argument(help="Of tokens.")], tokens: File = None) -> None:
    """Make tokens worthless, at once."""
    for name in names:
        _tokens(tokens).revoke(name)
        out.print(f"{name}  revoked")


def _tokens(path: Path | None) -> Tokens:
    needs_serve()
    from pixelkiln.jobs.web.server import tokens_of

    settings = Settings.load()
    return tokens_of(settings if path is None else settings.model_copy(update={"tokens": path}))
