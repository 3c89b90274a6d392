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
HOST, PORT = "127.0.0.1", 8765
AT = typer.Option("--host", help="Address to listen on; beyond this machine: with tokens.")
ON = typer.Option("--port", help="Port; 0 for any.", min=0, max=65535)
Host = Annotated[str, AT]
Port = Annotated[int, ON]
Cert = Annotated[Path | None, typer.Option("--cert", help="Certificate chain, PEM: HTTPS.")]
Key = Annotated[Path | None, typer.Option("--key", help="Its key, where it is not in the same file.")]
token = typer.Typer(help="Make and revoke the tokens that `kiln serve` asks for.", no_args_is_help=True)
app.add_typer(token, name="token")


def needs_serve() -> None:
    """Raise NotReadyError, with the command that installs them, where the server's packages are not there."""
    needed = ("fastapi", "uvicorn", "prometheus_client")
    if any(importlib.util.find_spec(name) is None for name in needed):
        raise NotReadyError("this needs the server's packages; run: pip install 'pixelkiln[serve]'")


@app.command()
def serve(
    host: Host = HOST,
    port: Port = PORT,
    cert: Cert = None,
    key: Key = None,
    tokens: File = None,
    log_json: LogJson = False,
) -> None:
    """Serve the HTTP API and the page, until Ctrl-C. It holds no state: any number may run."""
    needs_serve()
    from pixelkiln.jobs.web import server

    settings = Settings.load()
    if key is not None and cert is None:
        raise UsageError("--key: needs --cert")
    there = bool(server.tokens_of(settings, tokens).all())
    bound = server.bind(host, port)
    if not server.is_loopback(bound):
        if not there:
            raise UsageError(f"--host {host}: others reach it there; make a token first: kiln token new NAME")
        if cert is None:
            err.print(
                "kiln: without --cert tokens and pictures can be read on the way; put a proxy before it that"
                " speaks HTTPS (docs/http.md)",
                soft_wrap=True,
            )
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if log_json or settings.log == "json":
        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonLines())
    where = server.address(bound, tls=cert is not None)

    def listening() -> None:
        err.print(f"kiln: {where}  ({'with tokens' if there else 'no tokens: this machine alone'})")

    serving = server.server(settings, bound, tokens=tokens, cert=cert, key=key, listening=listening)
    serving.run(sockets=[bound])


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
    from pixelkiln.jobs.web.tokens import FILE, Tokens

    return Tokens(path or Settings.load().home / FILE)
