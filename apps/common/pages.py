"""Server-rendered pages with Jinja, for web and admin.

    pages = Pages(Path(__file__).parent, prefix=settings.path_prefix)
    pages.mount_static(app)
    return pages.render(request, "plan.html", plan=plan)

Templates are in `templates/`, files for the browser in `static/`. In a template, `url("/plans")` adds the service's
path prefix, and `static("style.css")` adds the hash of the file's content, so that browsers can cache it for a year.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_SHARED_FOLDER = Path(__file__).parent / "site"

PAGE_POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""Content-Security-Policy of pages: no other hosts, no inline code."""


class _LongLivedFiles(StaticFiles):
    def __init__(self, folders: Sequence[Path]) -> None:
        super().__init__(directory=folders[0])
        self.all_directories = list(folders)

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        if response.status_code == 200 and b"v=" in scope["query_string"]:
            response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


class Pages:
    """Renders the templates of one service."""

    def __init__(self, folder: Path, *, prefix: str = "", **variables: Any) -> None:
        """`folder` contains `templates/` and `static/`. Every template gets the `variables`."""
        self._prefix = prefix
        self._static_folders = [path for path in (folder / "static", _SHARED_FOLDER / "static") if path.is_dir()]
        self.environment = Environment(
            loader=FileSystemLoader([folder / "templates", _SHARED_FOLDER / "templates"]),
            autoescape=select_autoescape(default=True, default_for_string=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._static_url = cache(self._find_static_url)
        self.environment.globals |= {"url": self.url, "static": self._static_url, **variables}

    def url(self, path: str) -> str:
        """Return the path of a page of this service with the path prefix."""
        return f"{self._prefix}{path}"

    def _find_static_url(self, name: str) -> str:
        path = next((folder / name for folder in self._static_folders if (folder / name).is_file()), None)
        if path is None:
            raise FileNotFoundError(
                f"cannot find the static file {name} in {', '.join(map(str, self._static_folders))}"
            )
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        return f"{self._prefix}/static/{name}?v={digest}"

    def mount_static(self, app: Starlette) -> None:
        """Serve `static/` under the prefix."""
        app.mount(f"{self._prefix}/static", _LongLivedFiles(self._static_folders), name="static")

    def render(self, request: Request, template: str, *, status_code: int = 200, **context: Any) -> HTMLResponse:
        """Render a template as the response. It must not be cached, because pages are personal."""
        body = self.environment.get_template(template).render(request=request, **context)
        return HTMLResponse(body, status_code=status_code, headers={"Cache-Control": "no-store"})
