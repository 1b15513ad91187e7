"""Dependencies for the endpoints of a service with pages."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from common import access
from common.pages import Pages as _Pages
from common.site.backends import Backend
from common.tokens import Principal


def _pages(request: Request) -> _Pages:
    pages: _Pages = request.app.state.pages
    return pages


def _api(request: Request) -> Backend:
    backend: Backend = request.app.state.api
    return backend


def _auth(request: Request) -> Backend:
    backend: Backend = request.app.state.auth
    return backend


Pages = Annotated[_Pages, Depends(_pages)]
Api = Annotated[Backend, Depends(_api)]
Auth = Annotated[Backend, Depends(_auth)]
Visitor = Annotated[Principal | None, Depends(access.visitor)]
SignedIn = Annotated[Principal, Depends(access.signed_in)]
Admin = Annotated[Principal, Depends(access.admin)]
