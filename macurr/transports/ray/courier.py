"""Numbered letters to the actor: each is applied once, and none is forgotten when the actor is restarted."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable

from macurr.errors import TransportError
from macurr.transports.ray.engine import ActorPort
from macurr.transports.ray.line import Line
from macurr.transports.ray.messages import Answers, Letter, Reply, packed, reply_of

__all__ = ["Courier"]

KEEP = 16 << 20
"""Bytes of letters that are in no checkpoint yet, past which the actor is asked to write one."""


class Courier:
    """Brings the letters of one writer to the actor, one at a time.

    A letter is kept until it is answered, and then until the actor says that it is in a checkpoint. If the actor
    is restarted, what it has lost is sent again, with the answers that were given, so that tasks which are being
    played stay what they are.

    Args:
        port: The way to the actor.
        name: The writer's name.
        saves: Whether the actor writes checkpoints at all.
        line: A connection on which letters go rather than by Ray, as long as it holds; None for none.
    """

    def __init__(self, port: ActorPort, name: str, *, saves: bool, line: Line | None = None) -> None:
        self._port, self._name, self._saves, self._line = port, name, saves, line
        self._incarnation = uuid.uuid4().hex
        self._seq = 0
        self._kept: deque[Letter] = deque()
        self.kept_bytes = 0

    def bring(
        self, frames: bytes, *, last: bool = False, patience: Callable[[], None] = lambda: None
    ) -> Reply:
        """Bring one letter, and before it what the actor has lost.

        Args:
            frames: What it says; nothing, to see only how the actor is.
            last: Whether it is the last one; it is in a checkpoint when this returns.
            patience: Called now and then while the reply is waited for; it raises when that has lasted too long.

        Raises:
            CurriculumLost: the actor is gone for good.
            TransportError: what the actor has lost is not here any more, either.
        """
        if frames:  # without any, it is a sign of life, which has no number of its own
            self._seq += 1
        save = self._saves and (last or self.kept_bytes > KEEP)
        letter = Letter(self._name, self._incarnation, self._seq, frames, save=save, last=last)
        if frames:  # kept at once: if patience ends, it is still to be delivered before the next one
            self._kept.append(letter)
            self.kept_bytes += len(frames)
        while True:
            reply = self._ask(letter, patience)
            if reply.seq >= self._seq or reply.failure is not None:
                break
            self._send_again(reply.seq, letter, patience)
        if frames:
            self._kept[-1] = letter._replace(known=reply.answers, save=False)
        self._forget(reply.durable if self._saves else self._seq)
        return reply if frames else reply._replace(answers=Answers(), refusals=())

    def _ask(self, letter: Letter, patience: Callable[[], None]) -> Reply:
        parcel = packed(letter)
        data = None if self._line is None else self._line.ask(parcel)
        if data is None:
            data = self._port.ask("exchange", parcel, patience=patience)
        return reply_of(data)

    def mend(self) -> None:
        """Open the connection, if there may be one and there is none."""
        if self._line is not None:
            self._line.mend()

    def close(self) -> None:
        """End the connection, if there is one."""
        if self._line is not None:
            self._line.close()

    def _send_again(self, since: int, current: Letter, patience: Callable[[], None]) -> None:
        """Send what came after letter `since` again. If the actor dies over it, whoever calls starts anew."""
        first = self._kept[0].seq if self._kept else self._seq + 1
        if first > since + 1:
            raise TransportError(
                f"The curriculum was restarted and knows {since} letters of this worker; letters {since + 1} to "
                f"{first - 1} had been in a checkpoint and are lost. Somebody has put an older file in its place."
            )
        for letter in [letter for letter in self._kept if letter.seq > since and letter is not current]:
            reply = self._ask(letter, patience)
            if reply.seq < letter.seq or reply.failure is not None:
                return

    def _forget(self, durable: int) -> None:
        """Forget the letters that are in a checkpoint."""
        while self._kept and self._kept[0].seq <= durable:
            self.kept_bytes -= len(self._kept.popleft().frames)
