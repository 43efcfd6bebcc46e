"""The quirks there are. By themselves, for commands that need nothing of a server."""

from __future__ import annotations

from enum import StrEnum


class Quirk(StrEnum):
    INTEGER_SAE_IDS = "integer-sae-ids"  # the n-th of all SAE IDs in alphabetical order is n
    IGNORES_SIZE = "ignores-size"  # every key has the default size
    FEWER_KEYS = "fewer-keys"  # one key, however many are asked for
    REPEATABLE_READS = "repeatable-reads"  # dec_keys gives a key again
    ODD_STATUS = "odd-status"  # 404 for an unknown key and for none left, without an Error body
    SHORT_RETENTION = "short-retention"  # the slave has quirks.RETENTION seconds to fetch a key
    URL_BASE64 = "url-base64"  # RFC 4648 5, without padding
    HEX_KEY_IDS = "hex-key-ids"  # key_IDs without hyphens, and no others are known
    UPPER_KEY_IDS = "upper-key-ids"  # key_IDs in upper case, and no others are known
    GET_ONLY = "get-only"
    POST_ONLY = "post-only"
    PATH_PREFIX = "path-prefix"  # see quirks.PREFIX
    ONE_OUTSTANDING = "one-outstanding"  # a new key ends those the slave has not fetched
    NO_STATUS = "no-status"  # 404
