"""The root of the exception tree and its branch for key-management entities.

``QsgwError`` stands here because imports go one way: everything may import ``kms_client``.
A message names the KME and what it did; it never contains key bytes or a response body.
"""

from __future__ import annotations

import unicodedata

MAX_QUOTED = 200  # characters of somebody else's words in a message of ours


def one_line(text: str, limit: int = MAX_QUOTED) -> str:
    """Foreign text made fit for a log line: no control or format characters, bounded length."""
    kept = "".join(
        " " if unicodedata.category(char)[0] == "C" or char in "\u2028\u2029" else char
        for char in text[: 4 * limit]
    )
    words = " ".join(kept.split())
    return words if len(words) <= limit else words[: limit - 1] + "…"


class QsgwError(Exception):
    """Root of every error qsgw raises on purpose. Its text is fit for a user."""


class KmeError(QsgwError):
    """Something went wrong between us and one KME."""

    def __init__(self, kme: str, what: str) -> None:
        super().__init__(f"KME {kme}: {what}")
        self.kme = kme
        self.what = what


class KmeUnreachableError(KmeError):
    """No TCP connection, name not resolved, connection lost before an answer."""


class KmeTimeoutError(KmeError):
    """Connected, but no complete answer in time."""


class KmeTlsError(KmeError):
    """TLS failed: not TLS at all, wrong certificate, our certificate refused."""


class KmeRefusedError(KmeError):
    """HTTP 400 and its kin: the request or a key_ID was refused. ``details``: the KME's words.

    Open KMEs say 404, 409 or 412 where the standard has 400 for an unknown key.
    """

    def __init__(self, kme: str, what: str, *, details: str = "") -> None:
        super().__init__(kme, what)
        self.details = details


class KmeUnauthorizedError(KmeError):
    """HTTP 401/403: the KME does not know this SAE, or the key is another pair's."""


class KmeUnavailableError(KmeError):
    """HTTP 503 and other 5xx: the KME has no keys now or has a fault of its own."""


class KmeEmptyError(KmeUnavailableError):
    """HTTP 503 with an ETSI error body: the KME works and says it has no keys to give now."""


class KmeNonsenseError(KmeError):
    """The answer breaks ETSI GS QKD 014: not JSON, wrong count or size, bad key_ID, zero key."""


class NoKeyError(QsgwError):
    """No key could be had for a peer. ``causes`` holds one error per KME tried."""

    def __init__(self, peer: str, causes: tuple[KmeError, ...] = (), *, reason: str = "") -> None:
        detail = "; ".join(str(cause) for cause in causes) or reason or "key pool is empty"
        super().__init__(f"no QKD key for {peer}: {detail}")
        self.peer = peer
        self.causes = causes


class TlsMaterialError(QsgwError):
    """A certificate or key file is missing, unreadable or not what it should be."""
