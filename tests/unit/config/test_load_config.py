"""A good configuration means what it says; of a bad one every fault is named."""

from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from gateway.config.load import inspect_config, load_config
from gateway.config.schema import OnStop, Start
from gateway.crypto.secret import Secret
from gateway.errors import ConfigError
from gateway.ike.credentials import SharedKey
from gateway.model import QkdPolicy


def warnings_of(file: Path) -> list[str]:
    return [str(warning) for warning in load_config(file).warnings]


def test_a_good_file(folder: Any) -> None:
    loaded = load_config(folder.file)
    assert loaded.warnings == ()
    config = loaded.config
    assert config.file == folder.file
    gateway = config.gateway
    assert gateway.listen == (ip_address("10.0.12.1"), ip_address("2001:db8::1"))
    assert gateway.control_socket == Path("/run/qsgw/control.sock")
    assert gateway.on_stop is OnStop.KEEP
    assert config.mqtt is not None
    assert (config.mqtt.port, config.mqtt.prefix, config.mqtt.key_ids) == (1883, "qsgw", False)
    assert config.metrics is not None
    assert (config.metrics.address, config.metrics.port) == (ip_address("127.0.0.1"), 9464)
    kme = config.kmes["primary"]
    assert (kme.credentials.ca, kme.timeout) == (folder.path / "pki/ca.pem", 3.0)
    tunnel = config.tunnels["sun"]
    assert tunnel.local_auth == SharedKey(key=Secret(b"0123456789abcdef0123456789abcdef"))
    assert tunnel.remote_auth == tunnel.local_auth
    assert tunnel.local_subnets == (ip_network("10.1.0.0/24"),)
    assert (tunnel.start, tunnel.qkd) == (Start.INITIATE, QkdPolicy.PREFER)
    assert (tunnel.rekey_min, tunnel.rekey_max, tunnel.restore_dwell) == (30, 3600, 60)
    assert tunnel.degraded_max is None
    assert tunnel.retransmit_base is None
    assert (tunnel.port, tunnel.force_encap) == (500, False)
    assert tunnel.fragment_size == 1280


def test_optional_tables_may_be_left_out(folder: Any) -> None:
    folder.remove("mqtt")
    config = load_config(folder.remove("metrics")).config
    assert config.mqtt is None
    assert config.metrics is None


def test_equal_files_make_equal_tunnels(folder: Any) -> None:
    first = load_config(folder.file).config
    assert load_config(folder.file).config == first
    folder.secret("sun.psk", b"another key, long enough")
    assert load_config(folder.file).config.tunnels["sun"] != first.tunnels["sun"]


def test_relative_paths_start_at_the_file(folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.path)
    config = load_config(Path("qsgw.toml")).config
    assert config.kmes["primary"].credentials.key == folder.path / "pki/moon.key"


def test_every_problem_is_reported_at_once(folder: Any, problems_of: Any) -> None:
    folder.set("gateway", on_stop="kep", nam="x")
    folder.set("kme.primary", timeout=3)
    folder.set("tunnel.sun", local="10.0.12", kme=["primary"], psk="gone.psk")
    found = problems_of(folder.file)
    assert [text.split(":")[0] for text in found] == [
        "[gateway] nam",
        "[gateway] on_stop",
        "[kme.primary] timeout",
        "[tunnel.sun] kme",
        "[tunnel.sun] psk",
        "[tunnel.sun] local",
    ]


@pytest.mark.parametrize(
    ("table", "changes", "expected"),
    [
        ("gateway", {"listen": None}, "[gateway] listen: this key is missing"),
        ("gateway", {"listen": []}, "[gateway] listen: expected a list that is not empty"),
        ("gateway", {"listen": ["0.0.0.0"]}, "stands for every address"),
        ("gateway", {"listen": ["10.0.12.1", "10.0.12.1"]}, "names an address twice"),
        ("gateway", {"name": "a/b"}, '"a/b" cannot be a name'),
        ("gateway", {"sae_id": "a b"}, "stands in a URL path"),
        ("gateway", {"control_socket": "/" + "x" * 200}, "too long for a Unix socket"),
        ("gateway", {"on_stop": "kep"}, 'unknown value \'kep\'; use one of "keep", "close"'),
        ("mqtt", {"port": 70000}, "[mqtt] port: expected a whole number <= 65535"),
        ("mqtt", {"prefix": "a/#"}, "cannot be a topic prefix"),
        (
            "mqtt",
            {"certificate": "pki/ca.pem", "ca": "pki/ca.pem"},
            "certificate and key belong together",
        ),
        ("mqtt", {"password_file": "sun.psk"}, "[mqtt] username: is needed with password_file"),
        ("metrics", {"listen": "9464"}, "is not address:port"),
        ("metrics", {"listen": "localhost:9464"}, '"localhost" is not an IPv4 or IPv6 address'),
        ("kme.primary", {"url": "http://10.9.1.2"}, "a KME is reached over https://"),
        ("kme.primary", {"url": "https://"}, "is not a KME address"),
        ("kme.primary", {"timeout": "0"}, "this cannot be zero"),
        ("kme.primary", {"timeout": 3}, "expected text in quotes, got a whole number"),
        ("tunnel.sun", {"pool_target": 0}, "expected a whole number >= 1"),
        ("tunnel.sun", {"rekey_min": "30"}, '"30" is not a duration'),
        ("tunnel.sun", {"remote": "sun.example"}, "is not an IPv4 or IPv6 address"),
        ("tunnel.sun", {"remote": "fe80::1%eth0"}, "is good on one link only"),
        ("tunnel.sun", {"remote_subnets": ["10.2.0.1/24"]}, 'did you mean "10.2.0.0/24"?'),
        ("tunnel.sun", {"remote_subnets": ["10.2.0.0/24", 3]}, "got a whole number (entry 2)"),
        ("tunnel.sun", {"allow_classical": "no"}, "expected true or false, got text in quotes"),
        ("tunnel.sun", {"qkd": "perhaps"}, 'use one of "require", "prefer", "off"'),
        ("tunnel.sun", {"rekey_maxx": "1h"}, 'unknown key; did you mean "rekey_max"?'),
    ],
)
def test_one_wrong_value(
    folder: Any, problems_of: Any, table: str, changes: dict[str, Any], expected: str
) -> None:
    found = problems_of(folder.set(table, **changes))
    assert len(found) == 1
    assert found[0].startswith(f"[{table}] ")
    assert expected in found[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty"),
        ("[gateway\n", "not TOML: "),
        ("[a]\n[a]\n", "not TOML: "),
        ("[gatewey]\n", 'gatewey: unknown table; did you mean "gateway"?'),
        ("tunnel = 1\n", "[tunnel]: write [tunnel.NAME]"),
        ("[kme]\nurl = 1\n", "[kme]: write [kme.NAME]"),
        ("gateway = 1\n", "[gateway]: write [gateway], a table"),
        ("[metrics]\n", "[gateway]: this table is missing"),
    ],
)
def test_broken_files(folder: Any, problems_of: Any, text: str, expected: str) -> None:
    folder.file.write_text(text)
    assert any(expected in problem for problem in problems_of(folder.file))


def test_not_text(folder: Any, problems_of: Any) -> None:
    folder.file.write_bytes(b"\xff\xfe")
    assert problems_of(folder.file) == ["not UTF-8 at octet 0"]


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        load_config(tmp_path / "none.toml")


# --- secrets and files -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "secret"),
    [
        (b"correct horse battery\n", b"correct horse battery"),
        (b"correct horse battery\r\n", b"correct horse battery"),
        (b"correct horse battery\n\n", b"correct horse battery\n"),  # one line end, no more
        (b"0x" + b"00ff" * 8, bytes.fromhex("00ff") * 8),
        (b"0sAAECAwQFBgcICQoLDA0ODw==\n", bytes(range(16))),
    ],
)
def test_forms_of_a_psk(folder: Any, data: bytes, secret: bytes) -> None:
    folder.secret("sun.psk", data)
    auth = load_config(folder.file).config.tunnels["sun"].local_auth
    assert auth == SharedKey(key=Secret(secret))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"short\n", "the key has 5 octets, at least 16 are needed"),
        (b"0x00ff", "the key has 2 octets"),
        (b"0x00ffqq", 'not hexadecimal after "0x"'),
        (b"0s!!", 'not base64 after "0s"'),
        (b"x" * 5000, "is too long for a secret"),
    ],
)
def test_bad_psk_files(folder: Any, problems_of: Any, data: bytes, expected: str) -> None:
    folder.secret("sun.psk", data)
    (problem,) = problems_of(folder.file)
    assert problem.startswith("[tunnel.sun] psk: ")
    assert expected in problem
    assert "00ff" not in problem.replace(str(folder.path), "")  # never the secret itself


def test_a_psk_file_that_is_not_there_or_a_folder(folder: Any, problems_of: Any) -> None:
    assert "does not exist" in problems_of(folder.set("tunnel.sun", psk="gone.psk"))[0]
    assert "is a directory" in problems_of(folder.set("tunnel.sun", psk="pki"))[0]


def test_who_else_may_read_a_secret(folder: Any, problems_of: Any) -> None:
    folder.secret("sun.psk", b"0123456789abcdef", mode=0o640)
    folder.secret("pki/moon.key", b"x", mode=0o640)
    assert [text.split(":")[0] for text in warnings_of(folder.file)] == [
        "[kme.primary] key",
        "[tunnel.sun] psk",
    ]
    folder.secret("sun.psk", b"0123456789abcdef", mode=0o644)
    folder.secret("pki/moon.key", b"x", mode=0o604)
    assert [text.split(":")[0] for text in problems_of(folder.file)] == [
        "[kme.primary] key",
        "[tunnel.sun] psk",
    ]


def test_a_missing_certificate_leaves_the_tunnels_usable(folder: Any) -> None:
    """The KME is out of use, which the tunnel's QKD policy deals with."""
    (folder.path / "pki/moon.pem").unlink()
    (warning,) = warnings_of(folder.file)
    assert warning.startswith("[kme.primary] certificate: ")
    assert "does not exist: no keys from this KME" in warning


def test_credentials(folder: Any, problems_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    file = folder.set("tunnel.sun", psk="credential:sun.psk")
    assert "which systemd sets for LoadCredential=" in problems_of(file)[0]
    credentials = folder.path / "credentials"
    credentials.mkdir()
    (credentials / "sun.psk").write_bytes(b"fedcba9876543210")
    (credentials / "sun.psk").chmod(0o444)  # systemd guards the folder
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    auth = load_config(file).config.tunnels["sun"].local_auth
    assert auth == SharedKey(key=Secret(b"fedcba9876543210"))
    assert (
        "write credential:NAME" in problems_of(folder.set("tunnel.sun", psk="credential:../x"))[0]
    )


def test_checking_a_services_file_from_a_shell(folder: Any) -> None:
    folder.set("kme.primary", key="credential:moon.key")
    file = folder.set("tunnel.sun", psk="credential:sun.psk")
    config, problems = inspect_config(file, outside_service=True)
    assert config is not None
    assert problems.errors == []
    assert [str(problem).split(":")[0] for problem in problems.warnings] == [
        "[kme.primary] key",
        "[tunnel.sun] psk",
    ]


def test_mqtt_password(folder: Any) -> None:
    folder.secret("mqtt.password", b"sesame\n")
    file = folder.set("mqtt", username="moon", password_file="mqtt.password")
    mqtt = load_config(file).config.mqtt
    assert mqtt is not None
    assert mqtt.password == Secret(b"sesame")
    folder.set("mqtt", host="broker.example")
    assert "crosses the network in the clear" in warnings_of(folder.file)[0]
    mqtt = load_config(folder.set("mqtt", ca="pki/ca.pem")).config.mqtt
    assert mqtt is not None
    assert mqtt.port == 8883


def test_no_secret_in_the_text_of_a_configuration(folder: Any) -> None:
    assert "0123456789abcdef" not in repr(load_config(folder.file).config)


def test_a_brokers_key_that_everybody_can_read_is_refused(folder: Any, problems_of: Any) -> None:
    tls = {"ca": "pki/ca.pem", "certificate": "pki/moon.pem", "key": "pki/mqtt.key"}
    folder.secret("pki/mqtt.key", b"x", mode=0o604)
    (problem,) = problems_of(folder.set("mqtt", **tls))
    assert problem.startswith("[mqtt] key: ")
    assert "can be read by everyone" in problem
    folder.secret("pki/mqtt.key", b"x")
    assert problems_of(folder.set("mqtt", **tls)) == []
