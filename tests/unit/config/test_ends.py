"""Two gateways' files side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.load import inspect_ends
from gateway.control import cli

GATEWAY = """
[gateway]
name = "{us}"
listen = ["{local}"]
sae_id = "{sae_id}"

[kme.primary]
url = "https://10.9.1.2:8443"
ca = "ca.pem"
certificate = "{us}.pem"
key = "{us}.key"

[connection.{peer}]
local = "{local}"
remote = "{remote}"
local_id = "{us}.example"
remote_id = "{peer}.example"
psk = "{us}.psk"
kmes = ["primary"]
peer_sae = "{peer}"
{connection}

[macsec.metro]
interface = "eth1"
{link}
"""
ENDS = {"moon": ("sun", "10.0.12.1", "10.0.23.3"), "sun": ("moon", "10.0.23.3", "10.0.12.1")}
CAK, OTHER_CAK = "01" * 32, "02" * 32


class Site:
    """Writes the files of moon and sun."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, text in (
            ("moon.psk", "0123456789abcdef"),
            ("sun.psk", "0123456789abcdef"),
            ("a.cak", CAK),
            ("b.cak", OTHER_CAK),
        ):
            (folder / name).write_text(text)
            (folder / name).chmod(0o600)

    def write(self, us: str, link: str = "", connection: str = "", sae_id: str = "") -> Path:
        peer, local, remote = ENDS[us]
        if "cak" not in link or "cak_bits" in link:
            link = f'connection = "{peer}"\n{link}'
        file = self.folder / f"{us}.toml"
        file.write_text(
            GATEWAY.format(
                us=us,
                peer=peer,
                local=local,
                remote=remote,
                link=link,
                connection=connection,
                sae_id=sae_id or us,
            )
        )
        return file

    def told(self, moon: str = "", sun: str = "") -> list[str]:
        return self.between(self.write("moon", moon), self.write("sun", sun))

    def between(self, moon: Path, sun: Path) -> list[str]:
        found = inspect_ends(moon, sun)
        errors = [f"{one.table} {one.key}: {one.message}" for one in found.errors]
        return errors + [f"warning: {one.table} {one.key}: {one.message}" for one in found.warnings]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    return Site(tmp_path)


STATIC = 'cak = "{cak}.cak"\nckn = "{ckn}"\nallow_classical = true'


@pytest.mark.parametrize(
    ("moon", "sun"),
    [
        ("", ""),
        ('addresses = ["10.9.3.1/30"]', 'addresses = ["10.9.3.2/30"]'),
        ('addresses = ["10.9.3.1/30"]', 'addresses = ["10.9.3.2/30", "2001:db8::1/64"]'),
        ("priority = 255", ""),
        ("priority = 1", 'suite = "gcm-aes-128"\naccept = ["gcm-aes-128", "gcm-aes-256"]'),
        ("priority = 1", "encryption = false"),
        ('security = "should-secure"', ""),
        ("delay_protect = true", 'sak_lifetime = "1h"\nreplay_window = 0'),
        (STATIC.format(cak="a", ckn="6d"), STATIC.format(cak="a", ckn="6d")),
    ],
)
def test_what_fits(site: Site, moon: str, sun: str) -> None:
    assert site.told(moon, sun) == []
    assert site.told(sun.replace(".1/", ".2/"), moon.replace(".2/", ".1/")) == []


@pytest.mark.parametrize(
    ("moon", "sun", "expected"),
    [
        ("cak_bits = 128", "", "cak_bits: 128 here, 256 at the other end"),
        ("priority = 255", "priority = 255", "priority: 255 at both ends"),
        ('suite = "gcm-aes-128"', 'accept = ["gcm-aes-128", "gcm-aes-256"]', "accept: lacks"),
        ('accept = ["gcm-aes-128", "gcm-aes-256"]', 'suite = "gcm-aes-128"', "suite: GCM_AES_256"),
        ("encryption = false", "priority = 17", "encryption: the other end wants it"),
        ("priority = 17", "encryption = false", "encryption: the other end does without"),
        (
            'addresses = ["10.9.3.1/30"]',
            'addresses = ["10.9.3.1/30"]',
            "addresses: 10.9.3.1 is that of the other end as well",
        ),
        (
            STATIC.format(cak="a", ckn="6d"),
            STATIC.format(cak="b", ckn="6d"),
            "cak: differs from that of [macsec.metro] at the other end",
        ),
    ],
)
def test_what_does_not_fit(site: Site, moon: str, sun: str, expected: str) -> None:
    (told,) = site.told(moon, sun)
    assert told.startswith(f"macsec.metro {expected}")
    assert CAK not in told


def test_links_of_other_names(site: Site) -> None:
    told = site.told('link = "ring"')
    sun = site.folder / "sun.toml"
    assert told == [
        f'macsec.metro link: nothing is called "ring" in {sun}; it has "metro"',
        f'macsec : {sun}: [macsec.metro] is called "metro": no link here is',
    ]
    assert site.told('link = "ring"', 'link = "ring"') == []


def test_a_link_that_one_end_lacks(site: Site) -> None:
    more = '[macsec.more]\ninterface = "eth2"\nconnection = "{}"\n'
    sun = site.folder / "sun.toml"
    assert site.told("", more.format("moon")) == [
        f'macsec : {sun}: [macsec.more] is called "more": no link here is'
    ]
    assert site.told(more.format("sun")) == [
        f'macsec.more link: nothing is called "more" in {sun}; it has "metro"'
    ]


def test_addresses_that_do_not_reach_each_other(site: Site) -> None:
    (told,) = site.told('addresses = ["10.9.3.1/30"]', 'addresses = ["10.9.3.5/30"]')
    assert told == (
        "warning: macsec.metro addresses: 10.9.3.1/30 reaches no address of the other end"
    )


@pytest.mark.parametrize(
    ("moon", "sun", "expected"),
    [
        ('qkd = "require"', 'qkd = "off"', 'qkd: "require" here, "off" at the other end'),
        ('start = "respond"', 'start = "respond"', 'start: "respond" at both ends'),
    ],
)
def test_connections_that_do_not_fit(site: Site, moon: str, sun: str, expected: str) -> None:
    files = (site.write("moon", connection=moon), site.write("sun", connection=sun))
    (told,) = site.between(*files)
    assert told.removeprefix("warning: ").startswith(f"connection.sun {expected}")
    files = (site.write("moon", connection=moon), site.write("sun"))
    assert site.between(*files) == []


def test_another_psk(site: Site) -> None:
    (site.folder / "sun.psk").write_text("fedcba9876543210")
    (told,) = site.told()
    assert told == "connection.sun psk: differs from that of [connection.moon] at the other end"


def test_an_sae_that_calls_itself_otherwise(site: Site) -> None:
    (told,) = site.between(site.write("moon"), site.write("sun", sae_id="helios"))
    assert told == 'connection.sun peer_sae: "sun" calls itself "helios"'


def test_secrets_of_the_peer_need_not_be_here(site: Site) -> None:
    (site.folder / "sun.psk").unlink()
    assert site.told() == []
    static = STATIC.format(cak="a", ckn="6d")
    assert site.told(static, static.replace("a.cak", "credential:metro.cak")) == []
    assert site.told(static, static.replace("a.cak", "gone.cak")) == []


def test_what_could_not_be_read_hides_nothing_else(site: Site) -> None:
    (told,) = site.told("cak_bits = 128", 'addresses = ["x"]\nmtu = 3')
    assert told.startswith("macsec.metro cak_bits")
    assert site.told("", 'link = "a/b"')[0].startswith("warning: macsec : no link in common")


def test_links_to_others_are_none_of_its_business(site: Site) -> None:
    moon = site.write("moon")
    other = site.write("sun")
    other.write_text(other.read_text().replace("moon.example", "mars.example"))
    (told,) = site.between(moon, other)
    assert told == f"warning: macsec : no link in common with {other}"
    assert site.told(STATIC.format(cak="a", ckn="6d"), STATIC.format(cak="b", ckn="6e")) == [told]


def test_a_file_that_is_none(site: Site) -> None:
    moon = site.write("moon")
    assert site.between(moon, site.folder / "gone.toml") == [
        f" : {site.folder / 'gone.toml'} is not usable: check it by itself"
    ]
    assert site.between(site.folder / "gone.toml", moon) == [], "that is told already"


def test_the_command(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    moon, sun = site.write("moon"), site.write("sun", "cak_bits = 128")

    def check(*words: str) -> int:
        with pytest.raises(SystemExit) as exit_:
            cli.main(["config", "check", *words])
        return int(exit_.value.code or 0)

    assert check(str(moon), "--peer", str(sun)) == 1
    told = f"{moon}: [macsec.metro] cak_bits: 256 here, 128 at the other end"
    assert told in capsys.readouterr().out
    assert check(str(moon)) == 0
    site.write("sun")
    assert check(str(moon), "--peer", str(sun)) == 0
