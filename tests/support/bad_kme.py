"""A TCP server that is no KME, in the way its first argument says: ``http``, ``silent``, ``noise``.

python tests/support/bad_kme.py http 10.9.1.2 9001
"""

from __future__ import annotations

import socket
import sys

HTTP = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
NOISE = b"\x00\xffnot TLS" * 50


def main(kind: str, address: str, port: int) -> None:
    server = socket.create_server((address, port))
    held = []
    while True:
        connection, _ = server.accept()
        if kind == "silent":
            held.append(connection)
            continue
        with connection:
            connection.recv(4096)
            connection.sendall(HTTP if kind == "http" else NOISE)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
