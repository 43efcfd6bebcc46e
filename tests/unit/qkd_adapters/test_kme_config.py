"""Configuration files: what is written is what is used, and errors name where they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qkd_adapters.address import TcpAddress, UnixAddress
from qkd_adapters.errors import KmeConfigError
from qkd_adapters.kme.config import load_kme
from qkd_adapters.kme.identity import SaeDirectory
from qkd_adapters.link.config import load_link

KME = """
[kme]
id = "kme-moon"
listen = ["10.9.1.2:8443", "[::1]:8443"]
ca = "pki/ca.pem"
certificate = "pki/kme-moon.pem"
key = "/etc/qsgw/kme-moon.key"
control_socket = "kme-moon.sock"

[link]
connect = "unix:/run/link.sock"
peer_kme = "kme-sun"

[keys]
max_count = 64
lifetime = "10m"

[sae.moon]
peers = ["sun", "mars"]

[sae.venus]
peers = ["sun"]
certificate = ["dns:venus.example", "cn:venus"]
"""

LINK = """
[link]
name = "moon-sun"
rate = 10
control_socket = "link.sock"

[side.kme-moon]
listen = "unix:/run/moon.sock"

[side.kme-sun]
listen = "tcp:10.9.0.3:7000"
"""


def test_kme_file(tmp_path: Path) -> None:
    file = tmp_path / "kme.toml"
    file.write_text(KME)
    settings = load_kme(file)
    assert settings.listen == (("10.9.1.2", 8443), ("::1", 8443))
    assert settings.ca == tmp_path / "pki/ca.pem"
    assert settings.key == Path("/etc/qsgw/kme-moon.key")
    assert settings.link == UnixAddress(path="/run/link.sock")
    assert settings.pairs == (("moon", "sun"), ("moon", "mars"), ("venus", "sun"))
    assert (settings.keys.max_count, settings.keys.lifetime) == (64, 600.0)
    assert settings.keys.max_per_request == 128
    assert settings.saes[0].certificate_names == ("uri:urn:qsgw:sae:moon", "dns:moon", "cn:moon")


def test_link_file(tmp_path: Path) -> None:
    file = tmp_path / "link.toml"
    file.write_text(LINK)
    settings = load_link(file)
    assert settings.rate == 10.0
    assert settings.sides == (
        ("kme-moon", UnixAddress(path="/run/moon.sock")),
        ("kme-sun", TcpAddress(host="10.9.0.3", port=7000)),
    )


BAD_KME = [
    ('id = "kme-moon"', "", "[kme] id: missing"),
    ('id = "kme-moon"', 'id = "kme-moon"\ncolour = "red"', "[kme] colour: unknown"),
    ("max_count = 64", 'max_count = "64"', "[keys] max_count: Expected `int`, got `str`"),
    ("max_count = 64", "max_count = 0", "[keys] max_count: 0 is not between"),
    ("max_count = 64", "max_size = 1000001", "[keys] max_size:"),
    ("max_count = 64", "max_size = 1001", "[keys] max_size: 1001 is not a multiple of 8"),
    ('"10m"', '"ten minutes"', "[keys] lifetime: 'ten minutes' is not a duration"),
    ('"10m"', '"0s"', "[keys] lifetime:"),
    ('["10.9.1.2:8443", "[::1]:8443"]', "[]", "[kme] listen: no address"),
    ('["10.9.1.2:8443", "[::1]:8443"]', '["10.9.1.2"]', "[kme] listen: '10.9.1.2' is not HOST"),
    ("unix:/run/link.sock", "/run/link.sock", "[link] connect: '/run/link.sock' is neither"),
    ('"cn:venus"', '"venus"', "[sae.venus] certificate: 'venus' is not uri:, dns: or cn:"),
    ('"cn:venus"', '"cn:moon"', "[sae.venus] certificate: 'cn:moon' is also 'moon'"),
    ('["sun"]', '["sun", "moon"]', "[sae.venus] peers: 'moon' is served by this KME too"),
    ('["sun"]', '["sun", "sun"]', "[sae.venus] peers: names one SAE twice"),
    ('["sun"]', '"sun"', "[sae.venus] peers: Expected `array`, got `str`"),
    ('["sun"]', '["sun"]\ncolour = 1', "[sae.venus] colour: unknown"),
    ("[kme]", "[kme", "not TOML"),
]


@pytest.mark.parametrize(("old", "new", "message"), BAD_KME, ids=[case[2] for case in BAD_KME])
def test_errors_name_file_table_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in KME
    file = tmp_path / "kme.toml"
    file.write_text(KME.replace(old, new))
    with pytest.raises(KmeConfigError) as error:
        load_kme(file)
    assert str(error.value).startswith(f"{file}: {message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rate = 10", "rate = 0", "[link] rate: 0 is not in"),
        ("rate = 10", "rate = nan", "[link] rate: nan is not in"),
        ("[side.kme-sun]", "[side.kme-moon.x]", "[side]: a link has 2 sides, not 1"),
        ('"tcp:10.9.0.3:7000"', "7000", "[side.kme-sun] listen: Expected `str`"),
        ("tcp:10.9.0.3:7000", "tcp:10.9.0.3", "[side.kme-sun] listen:"),
        (LINK[LINK.index("[side.kme-sun]") :], "", "[side]: a link has 2 sides, not 1"),
    ],
)
def test_link_errors(tmp_path: Path, old: str, new: str, message: str) -> None:
    file = tmp_path / "link.toml"
    file.write_text(LINK.replace(old, new))
    with pytest.raises(KmeConfigError) as error:
        load_link(file)
    assert str(error.value).startswith(f"{file}: {message}")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KmeConfigError, match=r"none\.toml: No such file"):
        load_kme(tmp_path / "none.toml")


# --- who a certificate belongs to --------------------------------------------------------


@pytest.fixture
def directory(tmp_path: Path) -> SaeDirectory:
    file = tmp_path / "kme.toml"
    file.write_text(KME)
    return SaeDirectory(load_kme(file).saes)


def certificate(common_name: str, *alternatives: tuple[str, str]) -> dict[str, object]:
    return {"subject": ((("commonName", common_name),),), "subjectAltName": alternatives}


@pytest.mark.parametrize(
    ("presented", "sae"),
    [
        (certificate("x", ("URI", "urn:qsgw:sae:moon")), "moon"),
        (certificate("x", ("DNS", "moon")), "moon"),
        (certificate("moon"), "moon"),
        (certificate("venus", ("DNS", "venus.example")), "venus"),
        # The common name counts only where there is no subjectAltName.
        (certificate("moon", ("DNS", "other")), None),
        (certificate("moon", ("IP Address", "10.0.0.1")), None),
        # Configured names replace the default ones.
        (certificate("x", ("DNS", "venus")), None),
        # Two SAEs in one certificate: nobody.
        (certificate("x", ("DNS", "moon"), ("DNS", "venus.example")), None),
        (certificate("urn:qsgw:sae:moon"), None),
        ({}, None),
        (None, None),
    ],
)
def test_certificate_to_sae(
    directory: SaeDirectory, presented: dict[str, object] | None, sae: str | None
) -> None:
    assert directory.identify(presented) == sae


def test_the_documented_files_are_good_and_fit_together(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs/operations.md").read_text(encoding="utf-8")
    text = text[text.index("## A KME without QKD devices") :]
    kme_text, link_text = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)[:2]
    (tmp_path / "kme.toml").write_text(kme_text)
    (tmp_path / "link.toml").write_text(link_text)
    kme, link = load_kme(tmp_path / "kme.toml"), load_link(tmp_path / "link.toml")
    assert dict(link.sides) == {
        kme.kme_id: kme.link,
        kme.peer_kme: UnixAddress(path=f"/run/qsgw-kme/link/{kme.peer_kme}.sock"),
    }
    assert kme.pairs == (("moon", "sun"),)
