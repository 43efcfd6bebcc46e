"""The structure of the source, held by reading it: who imports whom, sizes, forbidden words."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("gateway", "kms_client", "qkd_adapters", "netns_lab")

FILE_MAX = 600  # lines
FUNCTION_MAX = 60  # lines

MAY_IMPORT = {
    "kms_client": {"kms_client"},
    "qkd_adapters": {"qkd_adapters", "kms_client"},
    "gateway": {"gateway", "kms_client"},
    "netns_lab": {"netns_lab", "kms_client"},
}
"""Which of our packages a package may import."""

LEAVES = {"model", "errors"}  # the shared vocabulary: anyone in the gateway may import it
GATEWAY_MAY_IMPORT = {
    "model": {"crypto"},
    "errors": set(),
    "crypto": set(),
    "ike": {"crypto"},
    "mka": {"crypto"},
    "protection": {"ike.config"},  # the words for what is asked of ike
    "keys": {"crypto", "protection"},
    "dataplane": {"crypto", "mka.identifiers", "mka.registry"},  # names of channels, SAKs, suites
    # Checks proposals and selectors with the code that will use them.
    "pki": {"crypto", "ike.identity", "ike.registry"},
    "config": {"crypto", "ike", "mka.limits", "mka.registry", "dataplane.reconcile", "pki"},
    "control": {"config", "dataplane", "crypto", "pki"},
    "telemetry": {"config", "crypto", "control"},
}
"""Which parts of the gateway, or modules in them, a part may import besides itself and leaves.

``daemon`` is not listed: it is the only place that knows everybody.
"""

KEY_SIDE_SHARED = {"errors", "logs", "tasks", "address", "control", "config_file", "frames"}
"""Plumbing of the key side's processes, open to all of them."""
KEY_SIDE_MAY_IMPORT = {
    "link": {*KEY_SIDE_SHARED},
    "kme": {*KEY_SIDE_SHARED, "link"},
    "probe": {*KEY_SIDE_SHARED},
    # The simulation and the process that plays it. Nobody below may see them: what a device
    # knows of the channel is what its detectors tell it, in records.
    "optics": {"errors", "records"},
    "channel": {*KEY_SIDE_SHARED, "optics", "records"},
    # A calculator for planning: no process, so it may know the model and the real bounds.
    "plan": {"optics", "records", "postprocessing"},
    "plan_picture": {"optics", "plan"},
    # The maker of a pair, who calibrates it on a known good fibre. Run by hand, not by a device.
    "factory": {"errors", "optics", "records", "detection", "device", "postprocessing"},
    # The devices.
    "records": {"errors"},
    "postprocessing": {"errors"},
    "detection": {"errors"},
    "device": {*KEY_SIDE_SHARED, "records", "postprocessing", "detection", "link"},
}
"""Which parts of qkd_adapters a part may import besides itself. A part need not exist yet.

``commands`` is not listed: it is the command line, and knows everybody.
"""
COMPUTES_ONLY = ("qkd_adapters/detection", "qkd_adapters/postprocessing", "qkd_adapters/optics")
COMPUTES_WITH = {
    *("qkd_adapters", "kms_client.secret", "numpy"),
    "river",  # an extra, of one module: see test_one_module_imports_river
    "cryptography.hazmat.primitives.poly1305",  # a tag is paid for with key, see authentication
}
"""What the mathematics of devices and optics may import besides the standard library."""

SANS_IO = ("gateway/ike", "gateway/mka", "gateway/protection")
SANS_IO_FORBIDDEN = {
    *("asyncio", "concurrent", "multiprocessing", "queue", "sched", "threading"),
    *("datetime", "time"),
    *("os", "pathlib", "shutil", "signal", "subprocess", "sys", "tempfile"),
    *("select", "selectors", "socket", "ssl"),
    *("random", "secrets"),
    *("logging", "warnings"),
    *("aiohttp", "aiomqtt", "pyroute2"),
}
"""A protocol core reads no clock, opens nothing and draws no randomness of its own."""

REGISTRY_HOSTS = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("python" + "hosted", "org"),
        ("crates", "io"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("deb", "debian", "org"),
        ("archive", "ubuntu", "com"),
        ("proxy", "golang", "org"),
        ("ghcr", "io"),
        ("quay", "io"),
        ("docker", "io"),
    )
)
MACHINE_PATHS = (str(ROOT), "../shared/", "shared/" + "reference")


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> Iterator[str]:
    """Dotted names of everything ``path`` imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                yield from (f"{module}.{name.name}" for name in names)
            case ast.ImportFrom():
                pytest.fail(f"{label(path)}:{node.lineno}: relative import")


def lies_in(dotted: str, parts: set[str]) -> bool:
    """Does ``gateway.ike.wire.Reader`` lie in one of ``parts``, such as ``ike.wire``?"""
    return any(f"{dotted}.".startswith(f"gateway.{part}.") for part in parts)


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_one_way(package: str) -> None:
    wrong = [
        f"{label(path)} imports {name}"
        for path in sources(package)
        for name in imports(path)
        if (top := name.split(".")[0]) in PACKAGES and top not in MAY_IMPORT[package]
    ]
    assert not wrong


def test_no_source_imports_the_tests() -> None:
    wrong = [
        f"{label(path)} imports {name}"
        for path in sources(*PACKAGES)
        for name in imports(path)
        if name.split(".")[0] == "tests"
    ]
    assert not wrong


def test_parts_of_the_gateway_import_one_way() -> None:
    wrong = []
    for path in sources("gateway"):
        part = path.relative_to(ROOT / "gateway").parts[0].removesuffix(".py")
        if part in {"daemon", "__init__"}:
            continue
        allowed = GATEWAY_MAY_IMPORT[part] | LEAVES | {part}
        wrong += [
            f"{label(path)} imports {name}"
            for name in imports(path)
            if name.startswith("gateway.")
            and name != "gateway.__version__"
            and not lies_in(name, allowed)
        ]
    assert not wrong


def key_side_wrongs(part: str, path: Path) -> list[str]:
    allowed = KEY_SIDE_MAY_IMPORT[part] | {part}
    return [
        f"{label(path)} imports {name}"
        for name in imports(path)
        if name.startswith("qkd_adapters.") and name.split(".")[1] not in allowed
    ]


@pytest.mark.parametrize("part", KEY_SIDE_MAY_IMPORT)
def test_parts_of_the_key_side_import_one_way(part: str) -> None:
    files = [*sources(f"qkd_adapters/{part}"), ROOT / "qkd_adapters" / f"{part}.py"]
    assert not [wrong for path in files if path.exists() for wrong in key_side_wrongs(part, path)]


def test_every_part_of_the_key_side_has_a_rule() -> None:
    parts = {path.parent.name for path in (ROOT / "qkd_adapters").glob("*/__init__.py")}
    assert parts - {"commands"} <= KEY_SIDE_MAY_IMPORT.keys()


def test_mathematics_of_the_devices_imports_nothing_else() -> None:
    wrong = [
        f"{label(path)} imports {name}"
        for path in sources(*COMPUTES_ONLY)
        for name in imports(path)
        if (top := name.split(".")[0]) not in sys.stdlib_module_names
        and not any(f"{name}.".startswith(f"{allowed}.") for allowed in COMPUTES_WITH)
        and (top, name) != ("kms_client", "kms_client.errors.QsgwError")
    ]
    assert not wrong


def test_protocol_cores_do_no_io() -> None:
    wrong = [
        f"{label(path)} imports {name}"
        for path in sources(*SANS_IO, *COMPUTES_ONLY)
        for name in imports(path)
        if name.split(".")[0] in SANS_IO_FORBIDDEN
    ]
    assert not wrong


def test_one_module_imports_oqs() -> None:
    # Importing it downloads and builds a library where none is found.
    found = {
        label(path)
        for path in sources(*PACKAGES)
        for name in imports(path)
        if name.split(".")[0] == "oqs"
    }
    assert len(found) <= 1


def test_one_module_imports_river() -> None:
    # An extra of a hundred megabytes; the detection proper does without.
    found = {
        label(path)
        for path in sources(*PACKAGES)
        for name in imports(path)
        if name.split(".")[0] == "river"
    }
    assert found <= {"qkd_adapters/detection/trees.py"}


def test_no_file_is_too_long() -> None:
    long = {
        label(path): lines
        for path in sources(*PACKAGES, "tests")
        if (lines := len(path.read_text().splitlines())) > FILE_MAX
    }
    assert not long


def test_no_function_is_too_long() -> None:
    long = {
        f"{label(path)}:{node.lineno} {node.name}": lines
        for path in sources(*PACKAGES)
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_MAX
    }
    assert not long


def tracked_text() -> Iterator[tuple[str, str]]:
    """Name and text of every file under version control, or of the whole tree without git."""
    git = ["git", "-C", str(ROOT), "ls-files", "-z"]
    listed = subprocess.run(git, check=False, capture_output=True, text=True)
    if listed.returncode == 0:
        names = [name for name in listed.stdout.split("\0") if name]
    else:
        folders = (*PACKAGES, "tests", "docs", "systemd", ".ci")
        names = [label(path) for name in folders for path in (ROOT / name).rglob("*")]
    for name in names:
        path = ROOT / name
        if path.is_file() and path != Path(__file__).resolve():
            yield name, path.read_text(errors="replace")


def test_no_registry_and_no_machine_of_ours_is_named() -> None:
    wrong = [
        f"{name} names {word}"
        for name, text in tracked_text()
        for word in (*REGISTRY_HOSTS, *MACHINE_PATHS)
        if word in text
    ]
    assert not wrong
