"""``qsgwd``: reads the configuration, runs the gateway, says what is wrong in one line."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from pathlib import Path

from gateway import __version__
from gateway.config.load import load_config
from gateway.daemon.app import Gateway
from gateway.daemon.block import block_only
from gateway.daemon.keylog import KeyLog
from gateway.daemon.logs import configure_logging
from gateway.errors import ConfigError, QsgwError

log = logging.getLogger("qsgw")

EXIT_FAILED = 1
EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h: systemd shows it as such

DEFAULT_CONFIG = Path("/etc/qsgw/qsgw.toml")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="qsgwd", description="Hybrid quantum-safe VPN gateway daemon."
    )
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE")
    parser.add_argument(
        "--insecure-key-log",
        type=Path,
        metavar="FOLDER",
        help="LAB ONLY: write IKE and ESP keys in Wireshark's formats; refused under systemd",
    )
    parser.add_argument(
        "--block-only",
        action="store_true",
        help="block what tunnels and MACsec links protect, and end: for the time before the daemon",
    )
    parser.add_argument("--verbose", action="store_true", help="log protocol detail")
    parser.add_argument("--version", action="version", version=f"qsgwd {__version__}")
    return parser.parse_args()


async def _run(arguments: argparse.Namespace) -> None:
    loaded = load_config(arguments.config)
    for warning in loaded.warnings:
        log.warning("%s: %s", arguments.config, warning)
    path = arguments.insecure_key_log
    key_log = KeyLog(path) if path is not None else None
    if key_log is not None:
        log.warning("IKE and ESP keys are being written to %s: lab use only", path)
    gateway = Gateway(loaded.config, arguments.config, key_log)
    try:
        await gateway.run()
    finally:
        if key_log is not None:
            key_log.close()


def main() -> None:
    """Run until SIGTERM, or to the end of what ``--block-only`` has to do.

    Exit 0 after a clean stop, 78 for a wrong configuration, else 1.
    """
    arguments = _arguments()
    configure_logging(verbose=arguments.verbose)
    try:
        asyncio.run(block_only(arguments.config) if arguments.block_only else _run(arguments))
    except ConfigError as error:
        for line in str(error).splitlines():
            log.error("%s", line)
        sys.exit(EXIT_CONFIG)
    except QsgwError as error:
        log.error("%s", error)
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
