"""Sockets are opened where they were asked for, or one line says why not."""

import socket

import pytest

from proxy.serving.listening import CannotListen, listen, listen_at


def test_one_port_for_all_addresses_of_a_name() -> None:
    sockets = listen("localhost", 0)
    try:
        assert len({sock.getsockname()[1] for sock in sockets}) == 1
        socket.create_connection(sockets[0].getsockname()[:2], timeout=5).close()
    finally:
        for sock in sockets:
            sock.close()


def test_an_address_that_the_machine_has_not_is_left_out_where_it_has_another() -> None:
    absent, here = (socket.AF_INET, ("192.0.2.1", 0)), (socket.AF_INET, ("127.0.0.1", 0))
    (sock,) = listen_at([absent, here], 0)
    with sock:
        assert sock.getsockname()[0] == "127.0.0.1"
    with pytest.raises(OSError, match="Cannot assign requested address"):
        listen_at([absent], 0)


def test_a_port_in_use_is_named() -> None:
    [first] = listen("127.0.0.1", 0)
    with first:
        port = first.getsockname()[1]
        with pytest.raises(CannotListen, match=rf"^cannot listen on 127\.0\.0\.1:{port}: Address already in use$"):
            listen("127.0.0.1", port)


def test_a_name_that_is_none_is_named() -> None:
    with pytest.raises(CannotListen, match="nowhere.invalid:80: "):
        listen("nowhere.invalid", 80)
