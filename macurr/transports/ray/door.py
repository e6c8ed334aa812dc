"""The actor's side of direct connections: letters come in and replies go out without a call of Ray's.

A call of Ray's takes the process that makes it a millisecond of CPU, a message and its answer a fraction of that. Ray
still places the actor, names it, restarts it, and tells where it listens and the key; and what fails here goes by Ray.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any

from typing_extensions import override

from macurr.errors import TransportError
from macurr.transports.connections import Connections, Peer
from macurr.transports.wire import CHUNK, listen_at, pack

__all__ = ["Door"]

_logger = logging.getLogger("macurr")


class Door(Connections):
    """Reads letters from the processes that connect, one at a time, and answers them.

    Args:
        ip: The address of this node by which others know it.
        answer: Makes a reply of a letter, both pickled.

    Raises:
        OSError: nothing can listen there.
    """

    def __init__(self, ip: str, answer: Callable[[bytes], bytes]) -> None:
        super().__init__(listen_at(ip))
        self._answer = answer
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="macurr-ray-door", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Finish the letter that is being read, and close every connection. Whoever writes goes on by Ray."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._waker.send(b"!")
        self._thread.join()

    def _serve(self) -> None:
        try:
            while not self._closing:
                self._look()
                if self._strangers:
                    self._dismiss()
        except Exception:  # the processes see the end of their connections, and go on by Ray
            _logger.exception("The curriculum's actor takes letters by Ray only from now on.")
        finally:
            self._close()

    def _look(self) -> None:
        for key, events in self._selector.select(self._patience()):
            if key.data is not None:
                self._attend(key.data, events)
            elif key.fileobj is self._listener:
                self._accept()
            else:
                self._bell.recv(CHUNK)

    @override
    def _route(self, peer: Peer, kind: str, *parts: Any) -> None:
        if kind != "letter":
            raise TransportError(f"Unknown message {kind!r}.")
        try:
            reply = self._answer(*parts)
        except Exception:  # it comes again by Ray, which brings the error to whom it concerns
            self._drop(peer)
        else:
            self._send(peer, pack("reply", reply))

    @override
    def _left(self, peer: Peer) -> None:
        """Nothing is tied to a connection: workers are known by their letters."""
