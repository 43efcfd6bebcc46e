"""A configuration folder to break in one place at a time."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

GOOD = """
[gateway]
name = "moon"
listen = ["10.0.12.1", "2001:db8::1"]
sae_id = "moon"

[mqtt]
host = "127.0.0.1"

[metrics]
listen = "127.0.0.1:9464"

[kme.primary]
url = "https://10.9.1.2:8443"
ca = "pki/ca.pem"
certificate = "pki/moon.pem"
key = "pki/moon.key"

[tunnel.sun]
local = "10.0.12.1"
remote = "10.0.23.3"
local_id = "moon.example"
remote_id = "sun.example"
psk = "sun.psk"
local_subnets = ["10.1.0.0/24"]
remote_subnets = ["10.2.0.0/24"]
kmes = ["primary"]
peer_sae = "sun"
"""


class Folder:
    """``qsgw.toml`` and the files it names."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path / "qsgw.toml"
        self.tables: dict[str, Any] = tomllib.loads(GOOD)
        (path / "pki").mkdir()
        for name in ("pki/ca.pem", "pki/moon.pem", "pki/moon.key"):
            self.secret(name, b"x")
        self.secret("sun.psk", b"0123456789abcdef0123456789abcdef\n")
        self.write()

    def secret(self, name: str, data: bytes, mode: int = 0o600) -> None:
        path = self.path / name
        path.write_bytes(data)
        path.chmod(mode)

    def set(self, table: str, **changes: Any) -> Path:
        """Change keys of a table (None removes one, a new table is copied from sun or primary)."""
        kind, _, name = table.partition(".")
        if name:
            tables = self.tables.setdefault(kind, {})
            model = next(iter(tables.values()), {})
            found = tables.setdefault(name, dict(model))
        else:
            found = self.tables.setdefault(kind, {})
        found.update(changes)
        for key in [key for key, value in changes.items() if value is None]:
            del found[key]
        return self.write()

    def remove(self, table: str) -> Path:
        kind, _, name = table.partition(".")
        if name:
            del self.tables[kind][name]
        else:
            del self.tables[kind]
        return self.write()

    def write(self) -> Path:
        lines = []
        for kind, value in self.tables.items():
            tables = (
                {f"{kind}.{name}": table for name, table in value.items()}
                if kind in ("kme", "tunnel")
                else {kind: value}
            )
            for name, table in tables.items():
                lines.append(f"[{name}]")
                lines += [f"{key} = {_toml(item)}" for key, item in table.items()]
        self.file.write_text("\n".join(lines) + "\n")
        return self.file


def _toml(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case list():
            return f"[{', '.join(_toml(item) for item in value)}]"
        case dict():
            return f"{{ {', '.join(f'{key} = {_toml(item)}' for key, item in value.items())} }}"
        case str():
            return f'"{value}"'
        case _:
            return str(value)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    return Folder(tmp_path)


@pytest.fixture
def problems_of() -> Callable[[Path], list[str]]:
    from gateway.config.load import load_config
    from gateway.errors import ConfigError

    def find(file: Path) -> list[str]:
        try:
            load_config(file)
        except ConfigError as error:
            lines, found = str(error).splitlines(), error.problems
        else:
            return []
        assert all(str(file) in line for line in lines)
        return [str(problem) for problem in found]

    return find
