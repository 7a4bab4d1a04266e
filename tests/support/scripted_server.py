"""A server of one connection that sends the bytes it was told to."""

import socket
import threading
from contextlib import contextmanager

from refute.wire.endpoint import Dialect, Endpoint

STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
)
PLAIN = Dialect("plain", frozenset())


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


@contextmanager
def answering(*pieces):
    """Serve one connection: read a request, send the pieces; a function among them gets the socket."""
    got = {}
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(30)

        def serve():
            connection, _ = listening.accept()
            with connection:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(65536)
                head, _, body = request.partition(b"\r\n\r\n")
                length = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
                while length and len(body) < int(length[0].split(b":")[1]):
                    body += connection.recv(65536)
                got["head"], got["body"] = head.decode(), body
                for piece in pieces:
                    piece(connection) if callable(piece) else connection.sendall(piece)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Endpoint(f"http://127.0.0.1:{listening.getsockname()[1]}/v1", "m", PLAIN, silence=30), got
        finally:
            thread.join(30)
            assert not thread.is_alive()
