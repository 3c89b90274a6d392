"""What `kiln doctor` says of the server's tokens and of a worker's metrics."""

from __future__ import annotations

from pathlib import Path

from pixelkiln import Settings
from pixelkiln.jobs.web.tokens import FILE, Tokens
from pixelkiln.worker.commands.doctor.looks import examine
from pixelkiln.worker.commands.doctor.watched import look_at_metrics, look_at_server


def test_the_tokens_of_the_server_are_told(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    (none,) = look_at_server(settings)
    assert (none.state, none.found.startswith("no tokens in ")) == ("ok", True)
    tokens = Tokens(tmp_path / FILE)
    text = tokens.make("phone", "acme")
    (lonely,) = look_at_server(settings)
    assert (lonely.state, lonely.mend) == ("warning", "where anybody shall: kiln token new NAME --admin")
    tokens.make("me", "default", admin=True)
    (both,) = look_at_server(settings)
    assert (both.state, both.found) == ("ok", f"2 tokens in {tmp_path / FILE}, 1 of an admin")
    assert text not in both.found
    tokens.path.chmod(0o644)
    (open_to_others,) = look_at_server(settings)
    assert open_to_others.state == "problem"
    assert "may be read by others" in open_to_others.found


def test_where_a_worker_is_watched() -> None:
    assert "KILN_METRICS=127.0.0.1:9464" in look_at_metrics(Settings())[0].found
    assert "whoever" not in look_at_metrics(Settings(metrics="127.0.0.1:9464"))[0].found
    assert look_at_metrics(Settings(metrics="0.0.0.0:9464"))[0].found.endswith("reaches that address")


def test_doctor_looks_at_both(settings: Settings) -> None:
    assert {"server", "metrics"} <= {one.what for one in examine(settings)}
