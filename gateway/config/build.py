"""Turns each table's text and numbers into addresses, seconds, paths and secrets."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from gateway.config import units
from gateway.config.authentication import AuthenticationReader
from gateway.config.credentials import CredentialReader
from gateway.config.files import FileResolver, read_secret, why_unreadable
from gateway.config.macsec import MacsecReader
from gateway.config.problems import Problems, TableProblems, did_you_mean
from gateway.config.schema import (
    Authentication,
    GatewaySettings,
    KmeConfig,
    MacsecConfig,
    MetricsConfig,
    MqttConfig,
    TunnelConfig,
)
from gateway.config.tables import (
    ConnectionTable,
    GatewayTable,
    KmeTable,
    MacsecTable,
    MetricsTable,
    MqttTable,
    TunnelTable,
)
from gateway.crypto.secret import Secret
from gateway.ike.credentials import SharedKey
from gateway.model import EspMode, IpNetwork
from kms_client.connect import KeyProtocol
from kms_client.profiles import DEFAULT_PROFILE, PROFILES
from kms_client.tls import TlsFiles
from kms_client.tls_psk import PskFile

MQTT_PORT, MQTT_TLS_PORT = 1883, 8883  # IANA: mqtt, secure-mqtt
NO_KEYS, NO_BROKER = "no keys from this KME", "the broker cannot be reached"
IKE_REKEY_MIN = 10.0  # seconds; less leaves no time for a second attempt
REKEY_BYTES_MIN, REKEY_PACKETS_MIN = 1 << 20, 1000  # less is spent before a rekey is done
SUN_PATH_MAX = 107  # octets: unix(7), sun_path less its terminator


_NOBODY = Authentication(  # stands in for one with errors, until all of them are found
    local=SharedKey(key=Secret(b"")),
    remote=SharedKey(key=Secret(b"")),
    own_certificate=None,
    trust=None,
    local_id="",
)


class Builder:
    """One method per kind of table. What comes of one with errors is None, or good for checks.

    Those find out from ``Problems`` which of its values were read.
    """

    def __init__(
        self,
        files: FileResolver,
        problems: Problems,
        *,
        now: datetime,
        skip_credentials: bool = False,
        tolerate_dates: bool = False,
    ) -> None:
        self._files = files
        self._problems = problems
        self._credentials = CredentialReader(files=files, skip_credentials=skip_credentials)
        self._authentication = AuthenticationReader(
            credentials=self._credentials, now=now, tolerate_dates=tolerate_dates
        )

    def gateway(self, table: GatewayTable) -> GatewaySettings:
        at = self._problems.at("gateway")
        settings = GatewaySettings(
            name=at.read("name", units.parse_name, table.name),
            listen=at.read_list("listen", units.parse_address, table.listen),
            sae_id=at.read("sae_id", units.parse_sae_id, table.sae_id),
            control_socket=at.read("control_socket", self._socket_path, table.control_socket),
            control_group=table.control_group,
            on_stop=table.on_stop,
        )
        if len(set(settings.listen)) != len(settings.listen):
            at.error("listen", "names an address twice")
        return settings

    def mqtt(self, table: MqttTable) -> MqttConfig | None:
        at = self._problems.at("mqtt")
        if (table.certificate is None) != (table.key is None):
            at.error("certificate", "certificate and key belong together")
        if table.certificate is not None and table.ca is None:
            at.error("ca", "is needed to use TLS with a certificate")
        if table.password_file is not None and table.username is None:
            at.error("username", "is needed with password_file")
        if (
            table.password_file is not None
            and table.ca is None
            and not _is_loopback(table.host or "")
        ):
            at.warn("ca", "without it the broker's password crosses the network in the clear")

        def broker_file(key: str, reference: str | None, *, secret: bool = False) -> Path | None:
            if reference is None:
                return None
            return self._tls_file(at, key, reference, NO_BROKER, secret=secret)

        config = MqttConfig(
            host=table.host,
            port=table.port or (MQTT_PORT if table.ca is None else MQTT_TLS_PORT),
            prefix=at.read("prefix", units.parse_topic_prefix, table.prefix),
            username=table.username,
            password=self._credentials.secret(
                at, "password_file", table.password_file, read_secret
            ),
            ca=broker_file("ca", table.ca),
            certificate=broker_file("certificate", table.certificate),
            key=broker_file("key", table.key, secret=True),
            key_ids=table.key_ids,
        )
        return None if at.failed else config

    def metrics(self, table: MetricsTable) -> MetricsConfig | None:
        at = self._problems.at("metrics")
        listen = at.read("listen", units.parse_listen, table.listen)
        if at.failed:
            return None
        if not listen[0].is_loopback:
            at.warn("listen", f"{listen[0]} is not loopback: anyone who reaches it can read it")
        return MetricsConfig(address=listen[0], port=listen[1])

    def kme(self, name: str, table: KmeTable) -> KmeConfig | None:
        at = self._problems.at(f"kme.{name}")
        config = KmeConfig(
            name=at.read("", units.parse_name, name),
            url=at.read("url", units.parse_kme_url, table.url),
            credentials=self._kme_credentials(at, table),
            timeout=at.read("timeout", _positive_duration, table.timeout),
            protocol=table.protocol,
            profile=at.read("profile", _profile_name, table.profile),
            peers=tuple(
                (sae, at.read("peers", units.parse_sae_id, called))
                for sae, called in table.peers.items()
            ),
            retention=at.read_optional("retention", _positive_duration, table.retention),
        )
        if table.protocol is not KeyProtocol.ETSI014 and table.profile != DEFAULT_PROFILE:
            at.error("profile", f'profiles are of ETSI 014, not of protocol = "{table.protocol}"')
        profile = PROFILES.get(table.profile)
        if profile is not None and profile.outstanding is not None:
            at.warn(
                "profile",
                "this KME drops a key the peer has not fetched when it gives the next: keys "
                "fetched ahead are lost, and rekeys go without QKD",
            )
        return None if at.failed else config

    def _kme_credentials(self, at: TableProblems, table: KmeTable) -> TlsFiles | PskFile:
        """Certificates, or with SKIP a pre-shared key."""
        files = {"ca": table.ca, "certificate": table.certificate, "key": table.key}
        if table.psk is None:
            for key, file in files.items():
                if file is None and not at.has(key):
                    at.error(key, "this key is missing")
            return TlsFiles(
                ca=self._tls_file(at, "ca", table.ca or "", NO_KEYS),
                certificate=self._tls_file(at, "certificate", table.certificate or "", NO_KEYS),
                key=self._tls_file(at, "key", table.key or "", NO_KEYS, secret=True),
            )
        if table.protocol is not KeyProtocol.SKIP:
            at.error("psk", 'only protocol = "skip" has pre-shared keys; give ca, certificate, key')
        for key, file in files.items():
            if file is not None:
                at.error(key, "psk stands in place of certificates; leave one of them out")
        if table.psk_identity is None:
            at.error("psk_identity", "this key is missing; it tells the KME whose psk it is")
        return PskFile(
            identity=table.psk_identity or "",
            key=self._tls_file(at, "psk", table.psk, NO_KEYS, secret=True),
        )

    def connection(self, name: str, table: ConnectionTable) -> TunnelConfig:
        """An IKE SA without tunnels."""
        return self._tunnel(self._problems.at(f"connection.{name}"), name, table.as_tunnel())

    def macsec(self, name: str, table: MacsecTable) -> MacsecConfig:
        reader = MacsecReader(credentials=self._credentials)
        return reader.read(self._problems.at(f"macsec.{name}"), name, table)

    def tunnel(self, name: str, table: TunnelTable) -> TunnelConfig:
        return self._tunnel(self._problems.at(f"tunnel.{name}"), name, table)

    def _tunnel(self, at: TableProblems, name: str, table: TunnelTable) -> TunnelConfig:
        auth = self._authentication.read(at, table) or _NOBODY
        degraded_max = at.read("degraded_max", units.parse_duration, table.degraded_max)
        return TunnelConfig(
            name=at.read("", units.parse_name, name),
            shares=table.shares,
            local=at.read("local", units.parse_address, table.local),
            remote=at.read("remote", units.parse_address, table.remote),
            local_id=auth.local_id or table.local_id or "",
            remote_id=table.remote_id,
            local_auth=auth.local,
            remote_auth=auth.remote,
            own_certificate=auth.own_certificate,
            trust=auth.trust,
            mode=table.mode,
            local_subnets=self._subnets(at, table, "local"),
            remote_subnets=self._subnets(at, table, "remote"),
            start=table.start,
            dpd_action=table.dpd_action,
            close_action=table.close_action,
            idle_timeout=at.read("idle_timeout", units.parse_duration, table.idle_timeout) or None,
            qkd=table.qkd,
            kmes=table.kmes,
            peer_sae=at.read("peer_sae", units.parse_sae_id, table.peer_sae),
            pool_target=table.pool_target,
            restore_dwell=at.read("restore_dwell", units.parse_duration, table.restore_dwell),
            degraded_max=degraded_max or None,
            rekey_min=at.read("rekey_min", _positive_duration, table.rekey_min),
            rekey_max=at.read("rekey_max", _positive_duration, table.rekey_max),
            rekey_bytes=at.read("rekey_bytes", _rekey_bytes, table.rekey_bytes),
            rekey_packets=at.read("rekey_packets", _rekey_packets, table.rekey_packets),
            ike_rekey=at.read("ike_rekey", _ike_rekey, table.ike_rekey),
            key_reserve=table.key_reserve,
            ike=table.ike,
            esp=table.esp,
            allow_classical=table.allow_classical,
            liveness=at.read("liveness", units.parse_duration, table.liveness),
            retransmit_base=at.read_optional(
                "retransmit_base", _positive_duration, table.retransmit_base
            ),
            fragment_size=table.fragment_size,
            port=table.port,
            force_encap=table.force_encap,
        )

    def _subnets(self, at: TableProblems, table: TunnelTable, side: str) -> tuple[IpNetwork, ...]:
        """In transport mode an end's subnet is its own address, which need not be written."""
        key = f"{side}_subnets"
        texts: tuple[str, ...] | None = getattr(table, key)
        transport = table.mode is EspMode.TRANSPORT
        if not table.esp:  # a connection without tunnels
            return ()
        if texts is None and not transport:
            if not at.has(key):  # else it was there, and not to be read
                at.error(key, "this key is missing")
            return ()
        own = getattr(table, side)
        if texts is None and own is None:
            return ()
        networks = at.read_list(key, units.parse_network, texts or (own,))
        if transport and own and not at.failed and networks != (units.parse_network(own),):
            at.error(key, f"transport mode is for the two ends themselves: leave it out, or {own}")
        return networks

    # --- files -------------------------------------------------------------------------------

    def _tls_file(
        self, at: TableProblems, key: str, reference: str, cost: str, *, secret: bool = False
    ) -> Path:
        """A TLS file. One that cannot be read is a warning that tells the ``cost``, not an error:

        this KME or broker is out of use until it can, and everything else goes on.
        """
        if not at.has(key) and self._credentials.skipped(at, key, reference):
            return Path(reference)
        path = at.read(key, self._files.resolve, reference)
        if path is None:
            return path
        problem = why_unreadable(path)
        if problem is not None:
            at.warn(key, f"{problem}: {cost} until it can be read")
        elif secret:
            self._credentials.check_exposure(at, key, path)
        return path

    def _socket_path(self, text: str) -> Path:
        path = self._files.base / text
        if len(bytes(path)) > SUN_PATH_MAX:
            raise ValueError(f"{path} is too long for a Unix socket ({SUN_PATH_MAX} octets)")
        return path


def _positive_duration(text: str) -> float:
    seconds = units.parse_duration(text)
    if seconds <= 0:
        raise ValueError(f'"{text}": this cannot be zero')
    return seconds


def _profile_name(text: str) -> str:
    if text not in PROFILES:
        raise ValueError(f'there is no KME profile "{text}"{did_you_mean(text, PROFILES)}')
    return text


def _ike_rekey(text: str) -> float | None:
    seconds = units.parse_duration(text)
    if 0 < seconds < IKE_REKEY_MIN:
        raise ValueError(f'"{text}": less than {IKE_REKEY_MIN:g} s; "0" is never')
    return seconds or None


def _rekey_bytes(text: str) -> int | None:
    octets = units.parse_size(text)
    if 0 < octets < REKEY_BYTES_MIN:
        raise ValueError(f'"{text}": below 1 MiB it would rekey without end; "0" is no limit')
    return octets or None


def _rekey_packets(text: str) -> int | None:
    packets = units.parse_packets(text)
    if 0 < packets < REKEY_PACKETS_MIN:
        raise ValueError(f'"{text}": below 1000 it would rekey without end; "0" is no limit')
    return packets or None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return units.parse_address(host).is_loopback
    except ValueError:
        return False
