"""Renders templates: everything is escaped, browsers store nothing, and an unchanged page is not sent again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from worker import __version__
from worker.web import formatting
from worker.web.view_models import BAR, fingerprint

FOLDER = Path(__file__).resolve().parent
_STATIC = tuple(sorted((FOLDER / "static").iterdir()))


class Renderer:
    """Renders the templates of one application."""

    def __init__(self) -> None:
        self._templates = Environment(
            loader=FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        for name in ("person_name", "dicom_date", "dicom_time", "sex", "age", "moment", "byte_size", "state", "hours"):
            self._templates.filters[name] = getattr(formatting, name)
        self._templates.globals.update(
            version=__version__,
            comparison=formatting.comparison,
            bar_width=BAR,
        )
        self._program = fingerprint(__version__, [path.stat().st_mtime_ns for path in _STATIC])

    def page(self, request: Request, template: str, facts: object, status: int = 200, **shown: Any) -> Response:  # noqa: ANN401
        """Return a page, or 304 if the browser already shows this version of the facts.

        Parameters
        ----------
        facts
            Every value that the page depends on, as frozen values.
        shown
            The variables of the template.
        """
        version = f'"{fingerprint(self._program, template, facts)}"'
        # no-store: a page names patients; the ETag is for the page's own script, which polls
        headers = {"Cache-Control": "no-store", "ETag": version}
        if status == 200 and request.headers.get("if-none-match") == version:
            return Response(status_code=304, headers=headers)
        html = self._templates.get_template(template).render(**shown)
        return HTMLResponse(html, status, headers)
