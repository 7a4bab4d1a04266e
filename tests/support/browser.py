"""Headless Chromium, driven over WebDriver: what a page does in a browser, seen from outside it."""

import base64
import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MISSING = "there is no chromium with chromedriver here; `make browser` installs them on Debian and Ubuntu"
TAB, ENTER, SPACE = "\ue004", "\ue007", " "
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


def installed() -> tuple[str, str] | None:
    """The browser and its driver; None where one of them is missing."""
    browser = next(filter(None, map(shutil.which, _NAMES)), None)
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


@contextmanager
def browsing(profile: Path) -> Iterator["Browser"]:
    """A browser with a profile of its own, for as long as the block runs."""
    found = installed()
    assert found is not None
    browser, driver = found
    process = subprocess.Popen(
        [driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout is not None
        told = (re.search(r"successfully on port (\d+)", line) for line in process.stdout)
        port = next(match[1] for match in told if match)
        wire = _Wire(f"http://127.0.0.1:{port}")
        arguments = [*_QUIET, f"--user-data-dir={profile}"]
        options = {
            "browserName": "chrome",
            "goog:chromeOptions": {"binary": browser, "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        session = wire.ask("POST", "/session", {"capabilities": {"alwaysMatch": options}})["sessionId"]
        try:
            yield Browser(_Wire(f"{wire.base}/session/{session}"))
        finally:
            wire.ask("DELETE", f"/session/{session}")
    finally:
        process.terminate()
        process.wait(timeout=20)
        assert process.stdout is not None
        process.stdout.close()


@dataclass(frozen=True)
class _Wire:
    base: str

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        data = json.dumps(body or {}).encode() if method == "POST" else None
        request = urllib.request.Request(
            self.base + path, data, {"Content-Type": "application/json"}, method=method
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.read().decode()[:2000]}") from None


@dataclass(frozen=True)
class Browser:
    wire: _Wire

    def open(self, page: Path) -> None:
        """Load a file anew; what was logged before is forgotten."""
        self.wire.ask("POST", "/url", {"url": "about:blank"})
        self.console()
        self._log("performance")
        self.wire.ask("POST", "/url", {"url": page.as_uri()})

    def reload(self) -> None:
        """Load the page again, as a person does; what it keeps stays."""
        self.wire.ask("POST", "/refresh")

    def run(self, script: str, *arguments: Any) -> Any:
        """Run the body of a function in the page; return what it returns."""
        return self.wire.ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def protocol(self, command: str, **parameters: Any) -> Any:
        """Give a command of the DevTools protocol."""
        return self.wire.ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def press(self, *keys: str) -> None:
        """Press keys one after the other, as on a keyboard."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.wire.ask("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def size(self, width: int, height: int) -> None:
        """Make the page's window so large, as on a device of this size."""
        self.protocol(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def prefer(self, scheme: str) -> None:
        """Prefer light or dark colours, as a system does."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.protocol("Emulation.setEmulatedMedia", features=features)

    def scripts(self, *, enabled: bool) -> None:
        """Let pages that are loaded from now on run scripts, or not."""
        self.protocol("Emulation.setScriptExecutionDisabled", value=not enabled)

    def console(self) -> list[str]:
        """What was said on the console since the page was loaded, or since this was asked."""
        return [f"{entry['level']}: {entry['message']}" for entry in self._log("browser")]

    def requests(self) -> list[str]:
        """The addresses that were asked for."""
        events = (json.loads(entry["message"])["message"] for entry in self._log("performance"))
        return [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def accessible(self) -> Sequence[tuple[str, str]]:
        """Role and name of everything that assistive technology is told of."""
        nodes = self.protocol("Accessibility.getFullAXTree")["nodes"]
        return [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in nodes
            if not node.get("ignored")
        ]

    def screenshot(self, *, whole: bool = False) -> bytes:
        """A picture (PNG) of what is seen, or of the whole page."""
        taken = self.protocol("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(taken["data"])

    def _log(self, kind: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.wire.ask("POST", "/se/log", {"type": kind})
        return entries
