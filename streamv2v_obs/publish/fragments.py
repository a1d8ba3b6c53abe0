"""The file under a fragmented mp4: it holds whole fragments at every moment, so that it can always be played."""

from __future__ import annotations

import struct
from pathlib import Path

# Where the file may end: after the head that names the tracks, and after the samples of a fragment.
_ENDS = (b"moov", b"mdat", b"mfra")


class FragmentFile:
    """Created anew (FileExistsError otherwise) for a muxer to write to; no other program's bytes are touched.

    Bytes are kept until a fragment is whole and go to the system in one call. If that fails half-way the file is cut
    back to the fragments before it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("xb", buffering=0)
        self._pending = bytearray()
        self._scanned = 0  # of _pending: where the next box begins
        self._whole = 0
        self._stopped = False

    def write(self, data: bytes) -> int:
        """Take the muxer's bytes. Raises OSError of the system (a full disk)."""
        if not self._stopped:
            self._pending += data
            end = self._last_end()
            if end:
                self._append(bytes(self._pending[:end]))
                del self._pending[:end]
                self._scanned -= end
        return len(data)

    def stop(self) -> None:
        """Swallow what a muxer that is being closed still wants to write."""
        self._stopped = True
        self._pending.clear()

    def close(self) -> None:
        """Close the file, and remove it if nothing was ever written."""
        if self._file.closed:
            return
        self._file.close()
        if self._whole == 0:
            self.path.unlink(missing_ok=True)

    def _last_end(self) -> int:
        """How much of the pending bytes may go: up to the end of the last box that may end the file."""
        end = 0
        while len(self._pending) >= self._scanned + 16:
            size, kind = struct.unpack_from(">I4s", self._pending, self._scanned)
            if size == 1:  # the size did not fit 32 bits
                (size,) = struct.unpack_from(">Q", self._pending, self._scanned + 8)
            if len(self._pending) < self._scanned + size:
                break
            self._scanned += size
            if kind in _ENDS:
                end = self._scanned
        return end

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError:
            self._file.truncate(self._whole)
            self._stopped = True
            raise
        self._whole += len(data)
