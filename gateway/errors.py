"""The gateway's branches of the one exception tree (root: ``kms_client.errors.QsgwError``)."""

from __future__ import annotations

from kms_client.errors import NoKeyError, QsgwError

__all__ = [
    "ConfigError",
    "ControlError",
    "CredentialError",
    "CryptoError",
    "DataplaneError",
    "KeyReusedError",
    "NoKeyError",
    "QsgwError",
    "StartupError",
]


class ConfigProblem:
    """One thing wrong with a configuration file."""

    __slots__ = ("key", "message", "table")

    def __init__(self, table: str, key: str, message: str) -> None:
        self.table = table
        self.key = key
        self.message = message

    def __str__(self) -> str:
        where = f"[{self.table}] {self.key}".strip() if self.table else self.key
        return f"{where}: {self.message}" if where else self.message


class ConfigError(QsgwError):
    """The configuration is wrong. Carries every problem found, not only the first."""

    def __init__(self, file: str, problems: tuple[ConfigProblem, ...]) -> None:
        super().__init__("\n".join(f"{file}: {problem}" for problem in problems))
        self.file = file
        self.problems = problems


class CredentialError(QsgwError):
    """A secret or certificate file is missing, unreadable or malformed."""


class CryptoError(QsgwError):
    """A cryptographic operation failed: bad public value, ICV mismatch, wrong length."""


class DataplaneError(QsgwError):
    """The kernel refused a request. The text is the kernel's own where it gave one."""

    def __init__(self, what: str, errno: int = 0) -> None:
        super().__init__(what)
        self.errno = errno


class KeyReusedError(QsgwError):
    """A QKD key_ID came up a second time. It must never key two SAs."""


class StartupError(QsgwError):
    """The daemon cannot start: port in use, missing capability, no kernel support."""


class ControlError(QsgwError):
    """A request over the control socket failed; ``exit_code`` is what the CLI exits with."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code
