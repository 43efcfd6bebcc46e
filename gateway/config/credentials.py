"""Reading the secret files a configuration names, and who else may read them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from gateway.config.files import CREDENTIAL_PREFIX, FileResolver, exposure
from gateway.config.problems import TableProblems

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialReader:
    """Problems go to the table and key the file is named in."""

    files: FileResolver
    skip_credentials: bool = False  # outside the service "credential:" references lead nowhere

    def skipped(self, at: TableProblems, key: str, reference: str) -> bool:
        if not (self.skip_credentials and reference.startswith(CREDENTIAL_PREFIX)):
            return False
        at.warn(key, f'"{reference}" was not checked: it exists only inside the service')
        return True

    def secret(
        self, at: TableProblems, key: str, reference: str | None, read: Callable[[Path], T]
    ) -> T | None:
        """What ``read`` makes of a secret file; None where that failed or was skipped."""
        if reference is None or self.skipped(at, key, reference):
            return None
        path = at.read(key, self.files.resolve, reference)
        if at.failed and path is None:
            return None
        secret = at.read(key, lambda _: read(path), reference)
        if secret is not None:
            self.check_exposure(at, key, path)
        return secret

    def check_exposure(self, at: TableProblems, key: str, path: Path) -> None:
        """Credentials are guarded by systemd; any other secret file by its mode."""
        if self.files.is_credential(path):
            return
        who = exposure(path)
        if who == "world":
            at.error(key, f"{path} can be read by everyone: chmod 600 {path}")
        elif who == "group":
            at.warn(key, f"{path} can be read by its group: chmod 600 {path}, or make sure of it")
