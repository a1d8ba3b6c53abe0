"""Every error this project raises on purpose, each with the action it calls for and its exit code.

StreamV2VError                 exit  what happens while the service runs
├── ConfigError                  2   nothing is opened; a reload keeps the old settings
├── AlreadyRunning               2   the second instance ends
├── NotRunning                   2   the command line says how to start the service
├── SourceError                  3
│   ├── SourceStalled                no new picture yet: the last one is held, reading goes on
│   ├── SourceLost                   reopened with back-off
│   └── EndOfSource                  a finite source is over: the end of `translate`, hold in the service
├── ModelError                   4
│   ├── ModelLoadError               at start: end; later: stay on the slate
│   └── OutOfDeviceMemory            as above; says which setting makes it fit
├── SinkError                    5
│   └── SinkLost                     reopened with back-off; the other outputs go on
│       └── SinkEnded                not reopened: the disk is full
├── ObsError                     6   only where OBS is required; frames never stop for it
│   ├── ObsUnreachable               retried for ever with back-off
│   └── ObsRefused                   wrong password, kicked, RPC version: not retried
└── (none of these)             70   our bug: a traceback is logged

Foreign exceptions are mapped to these only in the adapter that meets them.
"""

from __future__ import annotations

OUR_BUG = 70


class StreamV2VError(Exception):
    """Base of all; its text is one line, complete enough to be shown to a user as it is."""

    exit_code = OUR_BUG


class ConfigError(StreamV2VError):
    """A setting is wrong; names file, key, value and what is allowed."""

    exit_code = 2


class AlreadyRunning(StreamV2VError):
    """Another service of this user holds the instance lock."""

    exit_code = 2


class NotRunning(StreamV2VError):
    """A command needs the service and none answers."""

    exit_code = 2


class SourceError(StreamV2VError):
    """The pictures that come in."""

    exit_code = 3


class SourceStalled(SourceError):
    """No new picture within the source's patience; try again."""


class SourceLost(SourceError):
    """The source is gone or cannot be opened; it has to be opened anew."""


class EndOfSource(SourceError):
    """A finite source has given its last picture."""


class ModelError(StreamV2VError):
    """The model or its device."""

    exit_code = 4


class ModelLoadError(ModelError):
    """Weights missing, damaged, unsafe or of the wrong kind; names the file and the command that fixes it."""


class OutOfDeviceMemory(ModelError):
    """The device's memory is too small; proposes size, steps or precision."""


class SinkError(StreamV2VError):
    """The pictures that go out."""

    exit_code = 5


class SinkLost(SinkError):
    """The output is gone or cannot be opened; it has to be opened anew."""


class SinkEnded(SinkLost):
    """The output is over, and opening it again would only fail again."""


class ObsError(StreamV2VError):
    """The link to OBS."""

    exit_code = 6


class ObsUnreachable(ObsError):
    """Nothing answers there, or it stopped answering."""


class ObsRefused(ObsError):
    """OBS answered and said no (close codes 4009, 4010, 4011)."""


def named(key: str) -> str:
    """A key that somebody else chose, for one line of a message: what would break the line is escaped."""
    key = key[:100]
    return key if key.isprintable() else repr(key)
