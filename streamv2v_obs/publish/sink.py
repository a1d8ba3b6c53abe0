"""The promise every output keeps."""

from __future__ import annotations

from typing import Protocol

from streamv2v_obs.frames import Pixels


class FrameSink(Protocol):
    """Shows pictures. Pacing is not its business. Used by one thread."""

    @property
    def detail(self) -> str:
        """Where the pictures go, in a few words for ``status``."""
        ...

    def send(self, pixels: Pixels) -> None:
        """Show uint8 [H, W, 3] RGB of any size; raises SinkLost."""
        ...

    def close(self) -> None:
        """Give everything back; once, nothing after it."""
        ...
