"""Where log lines go: the journal with fields, or stderr, never both.

Under systemd with a journal socket: native entries. With stderr on a journal stream only:
lines prefixed ``<N>`` (sd-daemon(3)). Otherwise: lines with a time. No filter hides secrets
here, because a Secret has no text form in the first place.
"""

from __future__ import annotations

import logging
import sys
import time

from gateway.control.text import clean
from gateway.daemon.journal import JournalHandler, priority, stream_is_journal

IDENTIFIER = "qsgwd"
OWN_LOGGERS = ("qsgw", "kms_client")


class _LineFormatter(logging.Formatter):
    """One line per message: text from a peer cannot forge another. Tracebacks keep theirs."""

    converter = time.gmtime  # type: ignore[assignment]  # typeshed: no arguments
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        record.message = clean(record.message)
        return super().formatMessage(record)


class _PriorityFormatter(_LineFormatter):
    """Every line, of a traceback too, with its ``<N>``."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = f"<{priority(record.levelno)}>"
        return "\n".join(prefix + line for line in super().format(record).split("\n"))


def configure_logging(*, verbose: bool = False) -> None:
    """Set up logging for the process. ``verbose`` adds protocol detail of our own modules."""
    root = logging.getLogger()
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        handler.close()
    root.addHandler(_handler())
    # No line names process or thread: each record would ask the system for them.
    logging.logProcesses = logging.logThreads = logging.logMultiprocessing = False
    root.setLevel(logging.WARNING)  # of libraries
    for name in OWN_LOGGERS:
        logging.getLogger(name).setLevel(logging.DEBUG if verbose else logging.INFO)


def _handler() -> logging.Handler:
    handler: logging.Handler
    if not stream_is_journal(sys.stderr.fileno()):
        handler = logging.StreamHandler()
        handler.setFormatter(_LineFormatter("%(asctime)s %(levelname)s %(message)s"))
        return handler
    try:
        handler = JournalHandler(IDENTIFIER)
        handler.setFormatter(_LineFormatter("%(message)s"))
    except OSError:
        handler = logging.StreamHandler()
        handler.setFormatter(_PriorityFormatter("%(message)s"))
    return handler
