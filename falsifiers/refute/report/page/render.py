"""Frozen data -> one HTML file. Everything that templates are given is escaped; what cannot be seen is shown.

The style and the script lie in the page and are named in its policy by their digests: nothing else runs,
nothing is fetched.
"""

import base64
import functools
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from refute.report.escape import visible
from refute.report.page.compare import Comparison
from refute.report.page.data import Report
from refute.report.page.meanings import LEVELS, STATUSES, VERDICTS

if TYPE_CHECKING:
    from jinja2 import Environment


def page(report: Report) -> bytes:
    """Write the report."""
    return _written("report.html.j2", {"report": report})


def compared(both: Comparison) -> bytes:
    """Write two runs side by side."""
    return _written("compare.html.j2", {"both": both})


def _written(template: str, data: Mapping[str, Any]) -> bytes:
    style, script = _asset("page.css"), _asset("page.js")
    policy = "; ".join(
        (
            "default-src 'none'",
            f"style-src '{_digest(style)}'",
            f"script-src '{_digest(script)}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    text = _environment().get_template(template).render(data, style=style, script=script, policy=policy)
    return text.encode()


@functools.cache
def _environment() -> "Environment":
    # Imported here: only this command needs it.
    from jinja2 import Environment, FunctionLoader, StrictUndefined  # noqa: PLC0415
    from markupsafe import Markup  # noqa: PLC0415

    def shown(value: Any) -> Any:
        """Prepare everything that a template prints; what a macro gave was escaped already."""
        return value if isinstance(value, Markup) or not isinstance(value, str) else visible(value)

    environment = Environment(
        loader=FunctionLoader(_asset),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        statuses=STATUSES,
        verdicts=VERDICTS,
        levels=LEVELS,
    )
    return environment


def _asset(name: str) -> str:
    return files("refute.report.page").joinpath("templates", name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
