"""HTML pages in one file: templates of this folder, in which everything that is inserted is escaped."""

from __future__ import annotations

import base64
import functools
import json
import math
from typing import TYPE_CHECKING, Any

from ..evaluation.intervals import limits_text

if TYPE_CHECKING:
    from jinja2 import Environment


def page(template: str, **facts: Any) -> str:
    """Fill a template; the result is a whole page that refers to nothing outside of it and can be encoded as UTF-8."""
    text = _environment().get_template(template).render(**facts)
    # Names of files may hold bytes that are no text.
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def data_uri(image: bytes) -> str:
    """Return an image, JPEG or PNG, as an address that contains it.

    >>> data_uri(b"\\x89PNG")
    'data:image/png;base64,iVBORw=='
    """
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("sgdr_jax.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"num": number_text, "limits": limits_text, "duration": duration, "pretty": pretty}
    return environment


def number_text(value: float | None, form: str = ",", scale: int = 1) -> str:
    """Format a number times `scale`; a dash for None and NaN.

    >>> number_text(-1234), number_text(0.125, ".1f", 100)
    ('−1,234', '12.5')
    """
    return "–" if value is None or math.isnan(value) else format(scale * value, form).replace("-", "−")


def duration(seconds: float) -> str:
    """Format a time in the two largest units.

    >>> duration(4), duration(75), duration(7320)
    ('4.0 s', '1 min 15 s', '2 h 02 min')
    """
    if math.isnan(seconds):
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def pretty(value: Any, most: int = 100_000) -> str:
    """Format data as indented JSON, cut off after `most` characters."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return text if len(text) <= most else text[:most] + "\n…"
