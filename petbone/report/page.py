"""What all pages are made with."""

from __future__ import annotations

import jinja2


def environment() -> jinja2.Environment:
    """The templates of the package: text is escaped, a name that is not known is an error."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("petbone.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
