"""How much the fault proxy adds where it plants nothing: requests in turns, straight and through it.

    python benchmarks/proxy.py --pairs 200

The engine is a server on the loopback that sends events at known times, in a process of its own, so that its
speed hides nothing. Figures are of one run: milliseconds until the first event, per gap between events, and
for the whole of a short answer; medians, and the median of the differences within pairs.
"""

import argparse
import json
import socket
import statistics
import subprocess
import sys
import time
from itertools import pairwise

from refute.wire.client import post
from refute.wire.endpoint import Dialect, Endpoint, Reply
from refute.wire.proxy import proxied

_EVENTS, _GAP = 32, 0.002
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    b"Connection: close\r\n\r\n"
)


def serve() -> None:
    """Answer every request with events at known times; one connection after the other."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        while True:
            connection, _ = listening.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.recv(65536)
                connection.sendall(_HEAD)
                due = time.perf_counter()
                for number in range(_EVENTS):
                    data = b'data: {"n": %d}\n\n' % number
                    due += _GAP
                    time.sleep(max(0.0, due - time.perf_counter()))
                    connection.sendall(b"%x\r\n%b\r\n" % (len(data), data))
                connection.sendall(b"0\r\n\r\n")


def figures(reply: Reply) -> dict[str, float]:
    """Milliseconds of one reply."""
    times = [event.ns / 1e6 for event in reply.events]
    gaps = sorted(after - before for before, after in pairwise(times))
    lateness = [moment - times[0] - 1e3 * _GAP * place for place, moment in enumerate(times)]
    return {
        "first event": times[0],
        "median gap": statistics.median(gaps),
        "longest gap": gaps[-1],
        "event late against the first": statistics.median(lateness),
        "end": reply.end_ns / 1e6,
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--pairs", type=int, default=200)
    arguments.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.serve:
        serve()
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        straight = Endpoint(f"http://127.0.0.1:{port}/v1", "m", Dialect("plain", frozenset()))
        seen: dict[str, list[dict[str, float]]] = {"straight": [], "proxied": []}
        with proxied(straight) as behind:
            for pair in range(given.pairs + 5):
                arms = [("straight", straight), ("proxied", behind)]
                for name, endpoint in arms if pair % 2 else arms[::-1]:
                    reply = post(endpoint, "/chat/completions", {"stream": True})
                    assert reply.broken is None
                    assert len(reply.events) == _EVENTS
                    if pair >= 5:  # the first ones warm up
                        seen[name].append(figures(reply))
        server.kill()
    table = {}
    for name in seen["straight"][0]:
        straights, behinds = ([each[name] for each in seen[arm]] for arm in ("straight", "proxied"))
        added = sorted(b - a for a, b in zip(straights, behinds, strict=True))
        table[name] = {
            "straight": statistics.median(straights),
            "proxied": statistics.median(behinds),
            "added": statistics.median(added),
            "added, 99th percentile": added[int(0.99 * (len(added) - 1))],
        }
    print(json.dumps({"pairs": given.pairs, "milliseconds": table}, indent=1))


if __name__ == "__main__":
    main()
