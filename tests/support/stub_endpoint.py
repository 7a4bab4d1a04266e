"""A server that answers routes as it is told, beside nothing; with the key `sesame` where it is told so."""

import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

KEYED = "key"  # as a status: 200 with the key, else 401


@contextmanager
def serving(answers):
    """Serve `{path: (status, value)}`, on any method; yields the URL. Other paths are 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, value = answers.get(self.path, (404, {"error": {"message": "no"}}))
            if status == KEYED:
                keyed = self.headers.get("Authorization") == "Bearer sesame"
                status, value = (200, value) if keyed else (401, {})
            body = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", "http://me:s3cret@other/v1/models?key=s3cret")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def listing(*names, owner="someone", **more):
    """What a list of models says."""
    return 200, {"object": "list", "data": [{"id": name, "owned_by": owner, **more} for name in names]}
