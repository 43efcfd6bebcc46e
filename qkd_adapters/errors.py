"""What can go wrong on the key side; all of it is a QsgwError with text fit for a user."""

from __future__ import annotations

from kms_client.errors import QsgwError


class KmeConfigError(QsgwError):
    """A configuration file is wrong. The text names the file, the table and the key."""


class KmeStartupError(QsgwError):
    """A process cannot start: address in use, certificate missing, file not writable."""


class LinkProtocolError(QsgwError):
    """The other end of the key interface broke its protocol; the connection is dropped."""


class FrameError(QsgwError):
    """A frame on one of our own streams is longer than its reader takes."""


class BootstrapError(QsgwError):
    """The secret two devices share from the start gives no pad: used up, used before."""


class HandshakeError(QsgwError):
    """Two devices do not come to a session: not the peer, or not its secret."""


class FactoryError(QsgwError):
    """A pair of devices nobody makes: no such preset, loss or drift."""


class PeerSilentError(QsgwError):
    """The other device said nothing for too long in the middle of a block."""


class ChannelTamperedError(QsgwError):
    """What came over the classical channel is not what the peer sent."""


class RecordError(QsgwError):
    """A record from the optics is not one: unknown column, wrong length, too long."""


class ControlRequestError(QsgwError):
    """A control request was refused, or the control socket did not answer."""


class KeyFileError(QsgwError):
    """A key taken from a KME cannot be written to its file; the key is lost."""


class PkiError(QsgwError):
    """Certificates could not be made or read."""


class NotEnoughKeysError(QsgwError):
    """A queue holds fewer keys than asked for. Nothing was taken."""

    def __init__(self, available: int, needed: int) -> None:
        super().__init__(f"{needed} keys needed, {available} stored")
        self.available = available
        self.needed = needed


class UnknownKeyError(QsgwError):
    """Key ids that are not, or no longer, in the store. Nothing was delivered."""

    def __init__(self, key_ids: tuple[str, ...]) -> None:
        super().__init__(f"{len(key_ids)} keys are not found on this KME")
        self.key_ids = key_ids


class EventStreamError(QsgwError):
    """No further event stream for this SAE."""


class QuarantinedKeyError(UnknownKeyError):
    """Keys that were withdrawn: the quantum link was suspect when they were made."""


class ForeignKeyError(UnknownKeyError):
    """Key ids that exist but belong to another SAE pair. Nothing was delivered."""


class PlanError(QsgwError):
    """A plan was asked for a device, a loss or a picture that cannot be."""
