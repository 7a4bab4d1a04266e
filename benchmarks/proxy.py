"""How much the fault proxy adds where it plants nothing: requests in turns, straight and through it.

    python benchmarks/proxy.py --pairs 200

Two engines, each in a process of its own, so that its speed hides nothing: a server on the loopback that
sends events at known times, and the bundled runtime's server with the embedded model. Figures are of one run:
milliseconds until the first event, of the gaps between events, and of the whole of a short answer; medians,
and the median of the differences within pairs. Ratios are those of the medians.
"""

import argparse
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import refute_runtime
from refute.targets.bundled_server import beside
from refute.wire.client import post
from refute.wire.endpoint import Dialect, Endpoint, Reply
from refute.wire.proxy import proxied

_EVENTS, _GAP = 32, 0.002
_WARM = 5  # pairs
_POCKET = Path(refute_runtime.__file__).parent / "pocket" / "pocket.gguf"
_QUESTION = "Repeat: apple river seven stone light orange window under garden paper"
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
    return {
        "first event": times[0],
        "median gap": statistics.median(gaps),
        "longest gap": gaps[-1],
        "mean gap": (times[-1] - times[0]) / len(gaps),
        "whole request": reply.end_ns / 1e6,
    }


def measured(straight: Endpoint, body: Mapping[str, Any], pairs: int) -> dict[str, dict[str, float]]:
    """Ask in turns, which of the two is first in turns too."""
    seen: dict[str, list[dict[str, float]]] = {"straight": [], "proxied": []}
    events = set()
    with proxied(straight) as behind:
        for pair in range(pairs + _WARM):
            arms = [("straight", straight), ("proxied", behind)]
            for name, endpoint in arms if pair % 2 else arms[::-1]:
                reply = post(endpoint, "/chat/completions", body)
                assert reply.status == 200
                assert reply.broken is None
                events.add(len(reply.events))
                if pair >= _WARM:
                    seen[name].append(figures(reply))
    assert len(events) == 1
    table = {}
    for name in seen["straight"][0]:
        straights, behinds = ([each[name] for each in seen[arm]] for arm in ("straight", "proxied"))
        added = sorted(b - a for a, b in zip(straights, behinds, strict=True))
        before, after = statistics.median(straights), statistics.median(behinds)
        table[name] = {
            "straight": before,
            "proxied": after,
            "ratio": after / before,
            "added": statistics.median(added),
            "added, 99th percentile": added[int(0.99 * (len(added) - 1))],
        }
    return table


@contextmanager
def known_gaps() -> Iterator[Endpoint]:
    """The server of this file."""
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        try:
            yield Endpoint(f"http://127.0.0.1:{port}/v1", "m", Dialect("plain", frozenset()))
        finally:
            server.kill()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--pairs", type=int, default=200)
    arguments.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.serve:
        serve()
    with known_gaps() as straight:
        tables = {"known gaps": measured(straight, {"stream": True}, given.pairs)}
    with beside(_POCKET, "array", "auto", time.perf_counter_ns) as own:
        asked = {
            "model": own.model,
            "messages": [{"role": "user", "content": _QUESTION}],
            "temperature": 0,
            "max_tokens": 16,
            "stream": True,
        }
        tables["bundled runtime"] = measured(own, asked, given.pairs)
    print(json.dumps({"pairs": given.pairs, "milliseconds": tables}, indent=1))


if __name__ == "__main__":
    main()
