"""The last lines of the log, kept for the panel."""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from dataclasses import dataclass

LINES = 500
_LONGEST = 2000
_KEY = re.compile(r"(key=)[\w-]{8,}")


@dataclass(frozen=True)
class LogLine:
    """One of them; ``number`` counts from 1 and tells a reader what is new to it."""

    number: int
    at: str
    level: str
    text: str


class LogTail(logging.Handler):
    """A handler of the root logger's; what it keeps may be read from any thread."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[LogLine] = deque(maxlen=LINES)
        self._number = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it. The handler's lock is held."""
        try:
            text = record.getMessage()
            if record.exc_info:
                text += f" ({record.exc_info[1]!r}; traceback in the log file)"
        except Exception:
            self.handleError(record)
            return
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        self._number += 1
        self._lines.append(LogLine(self._number, at, record.levelname, _KEY.sub(r"\1...", text)[:_LONGEST]))

    def after(self, number: int, most: int) -> tuple[LogLine, ...]:
        """The newest lines, at most ``most`` of them and only those after ``number``."""
        self.acquire()
        try:
            found = [line for line in self._lines if line.number > number]
        finally:
            self.release()
        return tuple(found[-most:])
