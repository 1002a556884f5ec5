"""Self-contained HTML pages: style, script and data in one file that needs no network."""

from __future__ import annotations

import json
from importlib.resources import files
from string import Template


def render_self_contained(package: str, name: str, data: object) -> str:
    """Return `name`.html of a package as a whole page, with its `.css`, `.js` and data inlined.

    The style and script that all pages share precede those of the page.
    """
    # `<` alone could end the script element that holds the data.
    text = json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    folder, shared = files(package), files("shaperun.check")

    def read_both(suffix: str) -> str:
        paths = shared.joinpath(f"page.{suffix}"), folder.joinpath(f"{name}.{suffix}")
        return "\n".join(path.read_text(encoding="utf-8") for path in paths)

    return Template(shared.joinpath("page.html").read_text(encoding="utf-8")).substitute(
        name=name,
        style=read_both("css"),
        script=read_both("js"),
        body=folder.joinpath(f"{name}.html").read_text(encoding="utf-8"),
        data=text,
    )
