"""Frames, addresses and the handshake, byte by byte."""

import pickle
import socket
import struct
import threading
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from macurr import TransportError
from macurr.transports import wire
from macurr.transports.wire import FrameReader, forget, listen, open_socket, pack, proof

PARTS = st.lists(st.tuples(st.text(max_size=5), st.integers(), st.binary(max_size=40)), max_size=8)


@given(frames=PARTS, cuts=st.lists(st.integers(0, 400), max_size=12))
def test_frames_come_out_whole_however_the_stream_is_cut(frames, cuts):
    stream = b"".join(pack(*parts) for parts in frames)
    bounds = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    reader, out = FrameReader(), []
    for first, last in pairwise(bounds):
        out += list(reader.feed(stream[first:last]))
    assert out == frames
    assert not reader.torn


@given(frames=PARTS.filter(bool), lost=st.integers(1, 10))
def test_an_incomplete_frame_waits_and_is_noticed(frames, lost):
    stream = b"".join(pack(*parts) for parts in frames)
    reader = FrameReader()
    assert list(reader.feed(stream[:-lost])) == frames[:-1]
    assert reader.torn
    assert list(reader.feed(stream[-lost:])) == frames[-1:]
    assert not reader.torn


def test_an_impossible_length_is_damage():
    with pytest.raises(TransportError, match="4294967295 bytes"):
        list(FrameReader().feed(b"\xff" * 4))


def test_a_frame_is_its_length_and_a_pickle():
    data = pack("kind", 1)
    assert struct.unpack("!I", data[:4]) == (len(data) - 4,)
    assert pickle.loads(data[4:]) == ("kind", 1)


def test_a_proof_depends_on_key_role_and_challenge():
    proofs = {proof(key, role, c) for key in (b"k", b"l") for role in (b"env", b"host") for c in (b"1", b"2")}
    assert len(proofs) == 8
    assert {len(p) for p in proofs} == {wire.DIGEST}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["abstract", "file", "tcp"])
def test_every_kind_of_address(kind, monkeypatch, tmp_path):
    if kind == "file":
        monkeypatch.setattr(wire.sys, "platform", "darwin")
        monkeypatch.setattr(wire.tempfile, "mkdtemp", lambda prefix: str(_made(tmp_path / prefix)))
    if kind == "tcp":
        names = {name: value for name, value in vars(socket).items() if name != "AF_UNIX"}
        monkeypatch.setattr(wire, "socket", SimpleNamespace(**names))
    listener, address = listen()
    address = pickle.loads(pickle.dumps(address))

    def answer():
        peer, _ = listener.accept()
        with peer:
            challenge = bytes(wire.CHALLENGE)
            peer.sendall(challenge)
            data = b""
            while len(data) < wire.DIGEST + wire.CHALLENGE:
                data += peer.recv(1000)
            assert data[: wire.DIGEST] == proof(address.key, b"env", challenge)
            peer.sendall(proof(address.key, b"host", data[wire.DIGEST :]))
            peer.sendall(peer.recv(100))

    thread = threading.Thread(target=answer)
    thread.start()
    with open_socket(address, 10) as sock:
        sock.sendall(b"hello")
        assert sock.recv(100) == b"hello"
    thread.join()
    listener.close()
    forget(address)
    forget(address)
    assert not list(tmp_path.iterdir())
    with pytest.raises(OSError, match=r"refused|No such file"):
        open_socket(address, 1)


def _made(path):
    path.mkdir()
    return path
