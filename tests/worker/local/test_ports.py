"""Ports that another holds."""

from __future__ import annotations

import socket

import pytest

from pixelkiln.worker.local import ports


class BSDSocket(socket.socket):
    """Binds as macOS does: the loopback address of a port is free though another has all the addresses."""

    def bind(self, address: object) -> None:
        pass


def test_a_port_that_is_held_on_every_address_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        held = other.getsockname()[1]
        monkeypatch.setattr(ports.socket, "socket", BSDSocket)
        assert not ports.is_free(held)
    assert ports.is_free(held)


def test_ports_that_macos_holds_are_never_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_free", lambda port: True)
    chosen = ports.free_ports(200)
    assert not {5000, 7000} & {*chosen, *(port + ports.PAIR for port in chosen)}
    assert ports._LOWEST > 7000
