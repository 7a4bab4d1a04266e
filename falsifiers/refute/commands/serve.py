"""`refute serve`: a model over HTTP."""

import argparse
import os
from typing import TYPE_CHECKING

from refute.commands.shared import Refused, add_model, count, selected
from refute.verdict import Exit

if TYPE_CHECKING:
    from refute.commands.shared import Commands


def add(commands: "Commands") -> None:
    """Add the command."""
    parser = commands.add_parser("serve", help="serve a model over HTTP, as OpenAI's API")
    parser.description = (
        "Serve a GGUF model over HTTP as a subset of OpenAI's API, described at /openapi.json. What is not "
        "supported is refused. SIGINT or SIGTERM ends it: new requests are refused, running answers finish."
    )
    add_model(parser.add_argument_group("what is served"))
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument(
        "--port", type=count(0, 65535), default=8080, metavar="N", help="0: any that is free (default: 8080)"
    )
    key = parser.add_mutually_exclusive_group()
    key.add_argument("--api-key", metavar="KEY", help="what clients must show; visible to users of the host")
    key.add_argument("--api-key-env", metavar="VAR", help="the environment variable that holds the key")
    limits = parser.add_argument_group("limits")
    for name, default, least, what in (
        ("--active", 16, 1, "requests computed at once, token by token in turns"),
        ("--queue", 64, 0, "requests that wait beside them; one more is refused with 429"),
        ("--memory", 4096, 1, "MiB that KV caches may take together"),
        ("--max-body", 4096, 1, "KiB of a request's body; a larger one is refused with 413"),
        ("--timeout", 600, 1, "seconds for one request and its answer; then 504, or an error in the stream"),
        ("--grace", 30, 0, "seconds for running answers once the server is told to end"),
    ):
        limits.add_argument(
            name, type=count(least), default=default, metavar="N", help=f"{what} (default: {default})"
        )
    parser.set_defaults(execute=_serve)


def _serve(arguments: argparse.Namespace) -> Exit:
    from refute_runtime.errors import RuntimeFailure

    try:
        from refute_runtime.serving.main import Options, serve
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("refute"):
            raise
        raise Refused(
            Exit.MISSING, f"refute: serving needs {error.name}; install it with: pip install 'refute[serve]'"
        ) from None
    selection = selected(arguments, "bundled")
    assert selection.model is not None
    options = Options(
        path=selection.model,
        backend=selection.backend,
        device=selection.device,
        mmap=selection.mmap,
        host=arguments.host,
        port=arguments.port,
        key=_api_key(arguments),
        active=arguments.active,
        queue=arguments.queue,
        memory=arguments.memory * 2**20,
        grace=arguments.grace,
        max_body=arguments.max_body * 2**10,
        timeout=arguments.timeout,
    )
    try:
        serve(options, lambda line: print(line, flush=True))
    except RuntimeFailure as error:
        raise Refused(Exit.MISSING, f"refute: {error}") from None
    except OSError as error:
        where = f"{arguments.host}, port {arguments.port}"
        raise Refused(Exit.USAGE, f"refute: cannot listen on {where}: {error.strerror or error}") from None
    return Exit.OK


def _api_key(arguments: argparse.Namespace) -> str | None:
    """The key that clients must show: an empty one would be none, and that is not what was asked for."""
    variable, key = arguments.api_key_env, arguments.api_key
    if variable is not None:
        key = os.environ.get(variable, "")
    if key is None:
        return None
    if not key.strip():
        where = "--api-key" if variable is None else f"--api-key-env {variable}"
        raise Refused(Exit.USAGE, f"refute: {where}: the key is empty, expected some characters")
    return str(key)
