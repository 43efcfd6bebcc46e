"""``[macsec.NAME]``: a layer-2 link and where its CAKs come from."""

from __future__ import annotations

from ipaddress import ip_interface
from typing import Any

import msgspec
import pytest

from gateway.config.load import inspect_config, load_config
from gateway.config.subnets import read_links, read_subnets
from gateway.config.tables import MacsecTable
from gateway.crypto.secret import Secret
from gateway.errors import ConfigError
from gateway.mka.registry import CipherSuite
from gateway.model import PortSecurity

MARS = {
    "local": "10.0.12.1",
    "remote": "10.0.34.4",
    "local_id": "moon.example",
    "remote_id": "mars.example",
    "psk": "sun.psk",
    "kmes": ["primary"],
    "peer_sae": "mars",
}
CORE = {"interface": "eth1", "connection": "mars"}
STATIC = {
    "interface": "eth1",
    "connection": None,
    "cak": "core.cak",
    "ckn": "6d6f6f6e",
    "allow_classical": True,
}
CAK = "000102030405060708090a0b0c0d0e0ff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"


@pytest.fixture
def links(folder: Any) -> Any:
    """``links(core={...}, other={...})``: a file with these tables, each with CORE beneath."""
    folder.secret("core.cak", f"{CAK}\n".encode())

    def make(connection: dict[str, Any] | None = None, **tables: dict[str, Any]) -> Any:
        folder.tables["connection"] = {"mars": {**MARS, **(connection or {})}}
        folder.tables["macsec"] = {
            name: {key: value for key, value in {**CORE, **table}.items() if value is not None}
            for name, table in tables.items()
        }
        return folder.write()

    return make


def told(file: Any) -> list[str]:
    _, problems = inspect_config(file)
    return [f"{one.table} {one.key}: {one.message}" for one in problems.errors]


def warned(file: Any) -> list[str]:
    return [f"{one.table} {one.key}: {one.message}" for one in load_config(file).warnings]


def test_what_need_not_be_written(links: Any) -> None:
    file = links(core={})
    core = load_config(file).config.macsec["core"]
    assert warned(file) == []
    assert (core.name, core.interface, core.device, core.link) == (
        *("core", "eth1", "macsec-core", "core"),
    )
    assert (core.connection, core.static, core.cak_size) == ("mars", None, 32)
    assert (core.addresses, core.mtu, core.priority) == ((), None, 16)
    assert (core.suite, core.accept) == (CipherSuite.GCM_AES_256, {CipherSuite.GCM_AES_256})
    assert (core.encrypt, core.security) == (True, PortSecurity.MUST_SECURE)
    assert (core.delay_protect, core.replay_window, core.sak_lifetime) == (False, 0, None)
    assert core.table == "macsec.core"


def test_what_may_be_written(links: Any) -> None:
    file = links(
        core={
            "device": "secure0",
            "addresses": ["10.9.3.1/30", "2001:db8:9::1/64"],
            "mtu": 1468,
            "link": "ring-1",
            "priority": 3,
            "suite": "gcm-aes-xpn-256",
            "accept": ["gcm-aes-xpn-256", "gcm-aes-256"],
            "delay_protect": True,
            "replay_window": 64,
            "sak_lifetime": "1h",
        }
    )
    core = load_config(file).config.macsec["core"]
    assert warned(file) == []
    assert core.addresses == (ip_interface("10.9.3.1/30"), ip_interface("2001:db8:9::1/64"))
    assert (core.device, core.mtu, core.link, core.priority) == ("secure0", 1468, "ring-1", 3)
    assert core.suite is CipherSuite.GCM_AES_XPN_256
    assert core.accept == {CipherSuite.GCM_AES_XPN_256, CipherSuite.GCM_AES_256}
    assert (core.delay_protect, core.replay_window, core.sak_lifetime) == (True, 64, 3600)


def test_equal_files_make_equal_links(links: Any, folder: Any) -> None:
    file = links(core=STATIC)
    first = load_config(file).config
    assert load_config(file).config == first
    folder.secret("core.cak", CAK[::-1].encode())
    assert load_config(file).config.macsec != first.macsec


# --- a CAK agreed by hand ----------------------------------------------------------------------


@pytest.mark.parametrize("text", [CAK, f"0x{CAK}\n", CAK[:32], f" {CAK.upper()} \n"])
def test_a_cak_agreed_by_hand(links: Any, folder: Any, text: str) -> None:
    file = links(core={**STATIC, "suite": "gcm-aes-128"})
    folder.secret("core.cak", text.encode())
    static = load_config(file).config.macsec["core"].static
    assert static is not None
    digits = text.strip().removeprefix("0x")
    assert (static.ckn, static.cak) == (b"moon", Secret(bytes.fromhex(digits)))
    (warning,) = warned(file)
    assert warning.startswith("macsec.core cak: is never renewed")
    assert "CLASSICAL" in warning


@pytest.mark.parametrize("text", [CAK[:30], CAK + "00", "x" * 64, "", CAK[:31] + "g", "\xff" * 32])
def test_a_cak_that_is_none_is_not_shown(links: Any, folder: Any, text: str) -> None:
    file = links(core=STATIC)
    folder.secret("core.cak", text.encode("latin-1"))
    (error,) = told(file)
    assert error.startswith(f"macsec.core cak: {folder.path / 'core.cak'}")
    assert not text or text[:8] not in error


def test_a_cak_that_others_can_read(links: Any, folder: Any) -> None:
    file = links(core=STATIC)
    folder.secret("core.cak", CAK.encode(), 0o644)
    (error,) = told(file)
    assert "can be read by everyone" in error


def test_outside_the_service_its_cak_is_not_looked_at(links: Any) -> None:
    file = links(core={**STATIC, "cak": "credential:core.cak"})
    config, problems = inspect_config(file, outside_service=True)
    assert config is not None
    assert [one.key for one in problems.warnings] == ["cak", "cak"]
    (error,) = told(file)
    assert "needs $CREDENTIALS_DIRECTORY" in error


# --- within a table ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"interface": None}, "interface: this key is missing"),
        ({"interface": "eth/1"}, 'interface: "eth/1" cannot be the name of an interface'),
        ({"interface": "eth 1"}, "interface: "),
        ({"interface": "a-bridge-of-sixt"}, "interface: "),
        ({"device": "sixteen-letters."}, "device: "),
        ({"device": "eth1"}, "device: "),
        ({"connection": None}, "connection: this key is missing; or give cak and ckn"),
        ({"connection": "mras"}, 'connection: there is no [connection.mras]; did you mean "mars"?'),
        ({"connection": "sun"}, "connection: [tunnel.sun] is a tunnel"),
        ({"cak": "core.cak"}, "cak: connection gives the CAKs; leave one of them out"),
        ({"ckn": "6d"}, "ckn: connection gives the CAKs"),
        ({**STATIC, "ckn": None}, "ckn: this key is missing"),
        ({**STATIC, "cak": None}, "cak: this key is missing"),
        ({**STATIC, "cak": "gone.cak"}, "cak: "),
        ({**STATIC, "ckn": "6"}, 'ckn: "6" is not a CKN'),
        ({**STATIC, "ckn": "00" * 33}, "ckn: "),
        ({**STATIC, "ckn": "moon"}, "ckn: "),
        ({**STATIC, "allow_classical": None}, "allow_classical: a CAK that is agreed by hand"),
        ({"link": "a/b"}, "link: "),
        ({"cak_bits": 192}, "cak_bits: unknown value 192; use one of 128, 256"),
        ({"priority": 256}, "priority: "),
        ({"priority": -1}, "priority: "),
        (
            {"suite": "gcm-aes-192"},
            "suite: unknown value 'gcm-aes-192'; use one of \"gcm-aes-128\"",
        ),
        ({"accept": ["gcm-aes-128"]}, "accept: lacks the link's own suite"),
        ({"accept": ["gcm-aes-256", "x"]}, "accept: unknown value 'x' (entry 2); use one of"),
        ({"security": "may-secure"}, "security: unknown value"),
        ({"replay_window": 1 << 30}, "replay_window: "),
        ({"sak_lifetime": "5s"}, 'sak_lifetime: "5s": less than 6 s'),
        ({"mtu": 67}, "mtu: "),
        ({"mtu": 65536}, "mtu: "),
        ({"mtu": 1279, "addresses": ["2001:db8:9::1/64"]}, "mtu: 1279: IPv6"),
        ({"addresses": ["10.9.3.1"]}, 'addresses: "10.9.3.1" is not an address with its prefix'),
        ({"addresses": ["10.9.3.0/30"]}, "addresses: "),
        ({"addresses": ["10.9.3.3/30"]}, "addresses: "),
        ({"addresses": ["0.0.0.0/0"]}, "addresses: "),
        ({"addresses": ["10.0.12.1/24"]}, "addresses: local 10.0.12.1 of [connection.mars]"),
        ({"addresses": ["10.0.34.1/24"]}, "addresses: remote 10.0.34.4 of [connection.mars]"),
        ({"devise": "x"}, 'devise: unknown key; did you mean "device"?'),
    ],
)
def test_what_is_wrong(links: Any, changes: dict[str, Any], expected: str) -> None:
    (error,) = told(links(core=changes))
    assert error.startswith(f"macsec.core {expected}")


@pytest.mark.parametrize(
    "changes",
    [
        {"addresses": ["10.9.3.0/31"]},
        {"addresses": ["10.9.3.1/32"]},
        {"addresses": ["fe80::1/64"]},
        {"mtu": 1280, "addresses": ["2001:db8:9::1/64"]},
        {"mtu": 68},
        {"sak_lifetime": "6s"},
        {"interface": "fifteen-letters"},
        {"interface": "eth1.100"},
        {"replay_window": (1 << 30) - 1},
        {"suite": "gcm-aes-128", "cak_bits": 128},
    ],
)
def test_what_is_not(links: Any, changes: dict[str, Any]) -> None:
    file = links(core=changes)
    assert (told(file), warned(file)) == ([], [])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"security": "should-secure"}, 'security: "should-secure" lets everything pass'),
        ({"encryption": False}, "encryption: everybody on the link can read"),
        ({"priority": 255}, "priority: 255 is never key server"),
        ({"cak_bits": 128}, "cak_bits: 128 bits: SAKs of 256 bits are no stronger"),
        ({"allow_classical": True}, "allow_classical: has no meaning here"),
    ],
)
def test_worth_a_warning(links: Any, changes: dict[str, Any], expected: str) -> None:
    (warning,) = warned(links(core=changes))
    assert warning.startswith(f"macsec.core {expected}")


@pytest.mark.parametrize("changes", [{"link": "ring"}, {"cak_bits": 256}])
def test_what_is_about_connections_only(links: Any, changes: dict[str, Any]) -> None:
    key = next(iter(changes))
    assert f"macsec.core {key}: has no meaning with a CAK that is agreed by hand" in warned(
        links(core={**STATIC, **changes})
    )


def test_a_name_that_makes_no_device(links: Any) -> None:
    (error,) = told(links(**{"core-ring": {}}))
    assert error.startswith('macsec.core-ring device: is missing, and "macsec-core-ring" is too')
    assert told(links(**{"core-ring": {"device": "ring"}})) == []


@pytest.mark.parametrize("name", ["mars", "sun"])
def test_a_name_is_for_one(links: Any, name: str) -> None:
    kind = {"mars": "connection", "sun": "tunnel"}[name]
    (error,) = told(links(**{name: {}}))
    assert error == f"macsec.{name} : there is a [{kind}.{name}]: give it another name"


def test_all_at_once(links: Any) -> None:
    file = links(
        core={
            "interface": "a/b",
            "sak_lifetime": "1s",
            "connection": "x",
            "accept": ["gcm-aes-128"],
        },
        ring={"device": "a b", "mtu": 3, "addresses": ["x"], "interface": "eth2", "link": "r"},
    )
    assert {error.split(":")[0] for error in told(file)} == {
        *(f"macsec.core {key}" for key in ("interface", "sak_lifetime", "connection", "accept")),
        *(f"macsec.ring {key}" for key in ("device", "mtu", "addresses")),
    }


def test_one_value_of_the_wrong_kind_is_one_error(links: Any) -> None:
    keys = {field.name for field in msgspec.structs.fields(MacsecTable)}
    for table, others in ((CORE, {"cak", "ckn"}), (STATIC, {"connection"})):
        for key in sorted(keys - others):
            found = told(links(core={**table, key: 1.5}))
            assert [text.split(":")[0] for text in found] == [f"macsec.core {key}"], key


# --- between tables ----------------------------------------------------------------------------


def test_two_links_of_one_connection(links: Any) -> None:
    file = links(core={}, ring={"interface": "eth2"})
    assert (told(file), warned(file)) == ([], [])
    assert {link.link for link in load_config(file).config.macsec.values()} == {"core", "ring"}


@pytest.mark.parametrize(
    ("core", "ring", "expected"),
    [
        ({}, {}, "interface: is that of [macsec.core]"),
        ({}, {"interface": "eth2", "link": "core"}, "link: [macsec.core] has the same connection"),
        ({}, {"interface": "eth2", "device": "macsec-core"}, "device: is that of [macsec.core]"),
        ({}, {"interface": "macsec-core"}, "interface: is the device of [macsec.core]"),
        ({}, {"interface": "eth2", "device": "eth1"}, "device: is the interface of [macsec.core]"),
        (
            {"addresses": ["10.9.3.1/30"]},
            {"interface": "eth2", "addresses": ["10.9.3.1/24"]},
            "addresses: 10.9.3.1 is also one of [macsec.core]",
        ),
    ],
)
def test_two_links_that_collide(
    links: Any, core: dict[str, Any], ring: dict[str, Any], expected: str
) -> None:
    (error,) = told(links(core=core, ring=ring))
    assert error.startswith(f"macsec.ring {expected}")


@pytest.mark.parametrize(
    ("core", "ring", "expected"),
    [
        (
            {"addresses": ["10.9.3.1/30"]},
            {"interface": "eth2", "addresses": ["10.9.3.2/24"]},
            ["macsec.ring addresses: 10.9.3.2/24 and 10.9.3.1/30 of [macsec.core] overlap"],
        ),
        ({"addresses": ["fe80::1/64"]}, {"interface": "eth2", "addresses": ["fe80::1/64"]}, []),
        (
            {"addresses": ["10.9.3.1/30"]},
            {"interface": "eth2", "addresses": ["10.9.3.5/30", "2001:db8::1/64"]},
            [],
        ),
    ],
)
def test_addresses_of_two_links(
    links: Any, core: dict[str, Any], ring: dict[str, Any], expected: list[str]
) -> None:
    file = links(core=core, ring=ring)
    assert told(file) == []
    assert [text.startswith(start) for text, start in zip(warned(file), expected, strict=True)] == [
        True for _ in expected
    ]


def test_two_links_with_one_cak(links: Any) -> None:
    found = warned(links(core=STATIC, ring={**STATIC, "interface": "eth2"}))
    assert "macsec.ring ckn: [macsec.core] has the same: a CAK is for one link" in found
    found = warned(links(core=STATIC, ring={**STATIC, "interface": "eth2", "ckn": "73"}))
    assert not any("ckn" in text for text in found)


def test_a_connection_that_is_wrong_hides_nothing_of_the_link(links: Any) -> None:
    found = told(links({"remote": "x"}, core={"mtu": 1, "addresses": ["10.0.12.1/24"]}))
    assert {text.split(":")[0] for text in found} == {
        *("connection.mars remote", "macsec.core mtu", "macsec.core addresses"),
    }


def test_links_alone_are_something_to_do(links: Any, folder: Any) -> None:
    links(core=STATIC)
    del folder.tables["tunnel"], folder.tables["connection"], folder.tables["kme"]
    assert [text.split(":")[0] for text in warned(folder.write())] == ["macsec.core cak"]
    del folder.tables["macsec"]
    assert "nothing to do" in warned(folder.write())[0]


def test_not_a_table(folder: Any) -> None:
    folder.file.write_text(f"macsec = 1\n{folder.file.read_text()}")
    with pytest.raises(ConfigError, match=r"write \[macsec.NAME\], one table for each"):
        load_config(folder.file)


# --- to block only -----------------------------------------------------------------------------


def test_devices_need_no_keys(links: Any, folder: Any) -> None:
    file = links(core={**STATIC, "addresses": ["10.9.3.1/30"]}, ring={"interface": "eth2"})
    (folder.path / "core.cak").unlink()
    (core, ring), problems = read_links(file)
    assert problems == ()
    assert (core.name, core.interface, core.device) == ("core", "eth1", "macsec-core")
    assert core.addresses == (ip_interface("10.9.3.1/30"),)
    assert (ring.suite, ring.security) == (CipherSuite.GCM_AES_256, PortSecurity.MUST_SECURE)
    assert [one.tunnel for one in read_subnets(file)[0]] == ["sun"]


def test_a_link_that_is_wrong_costs_no_other_its_device(links: Any) -> None:
    file = links(
        core={"interface": "a/b"},
        ring={"interface": "eth2", "security": "x", "addresses": ["x", "10.9.3.1/30"]},
        spur={"interface": "eth3"},
    )
    found, problems = read_links(file)
    assert [one.name for one in found] == ["ring", "spur"]
    assert found[0].security is PortSecurity.MUST_SECURE
    assert found[0].addresses == (ip_interface("10.9.3.1/30"),)
    assert {f"{one.table} {one.key}" for one in problems} == {
        *("macsec.core interface", "macsec.ring security", "macsec.ring addresses"),
    }
