"""The control socket's protocol: one JSON object per line each way, over a Unix stream socket.

Request:  {"schema": 1, "verb": "rekey", "tunnel": "sun"}
Answer:   {"schema": 1, "result": ...} or {"schema": 1, "error": "...", "exit_code": 4}
Monitor:  an answer, then {"schema": 1, "event": {...}} for every event until one side hangs up.

``tunnel`` names a tunnel, a connection or a MACsec link: no two of them have one name. ``result``
is a Snapshot for "snapshot" and a line of text for the verbs that change something.
Standard library only: ``qsgw`` imports this on every start.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum

SCHEMA = 1
DEFAULT_SOCKET = "/run/qsgw/control.sock"
REQUEST_MAX = 4096  # octets in a request line; ours are under 200
ANSWER_MAX = 16 * 1024 * 1024  # octets in an answer line; a tunnel takes about 2 KiB


class Verb(StrEnum):
    SNAPSHOT = "snapshot"
    MONITOR = "monitor"
    INITIATE = "initiate"
    TERMINATE = "terminate"
    REKEY = "rekey"
    REKEY_IKE = "rekey-ike"
    REKEY_SAK = "rekey-sak"
    RELOAD = "reload"


TUNNEL_VERBS = frozenset(
    {Verb.INITIATE, Verb.TERMINATE, Verb.REKEY, Verb.REKEY_IKE, Verb.REKEY_SAK}
)
WRITE_VERBS = TUNNEL_VERBS | {Verb.RELOAD}


class ExitCode(IntEnum):
    """What ``qsgw`` exits with."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3  # no daemon; systemctl's "not running" too
    NOT_FOUND = 4
    DEGRADED = 5  # ``status --check``: something runs with less protection than wanted
