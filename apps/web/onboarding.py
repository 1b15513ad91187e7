"""The form about a business, and the order of a plan."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel

from common.pages import Pages as PageRenderer
from common.site.backends import Refused
from common.site.parts import Api, Pages, SignedIn

router = APIRouter()

GOALS = (
    "More new customers",
    "Customers who come back",
    "Higher sales per customer",
    "Being known in the area",
    "Launching something new",
)
CHANNELS = (
    "Website",
    "Newsletter",
    "Instagram",
    "Facebook",
    "TikTok",
    "LinkedIn",
    "Map listing",
    "Advertisements",
    "Flyers and posters",
    "Events",
)
_PROBLEMS = {
    "business_name": "Please enter the name of your business.",
    "industry": "Please say what your business does.",
    "audience": "Please say who your customers are.",
    "goals": "Please choose at least one goal.",
    "website": "Please enter a whole address, such as https://example.com.",
    "budget_per_month": "Please enter whole euros, such as 200.",
}


class BusinessForm(BaseModel):
    """The form data. Values are text as typed, so that the form can show them again."""

    business_name: str = ""
    industry: str = ""
    audience: str = ""
    goals: list[str] = []
    location: str = ""
    website: str = ""
    budget_per_month: str = ""
    channels: list[str] = []
    order: str = ""
    """An idempotency key from the form, so that sending it twice orders one plan."""


@router.get("/onboarding")
async def show_onboarding(request: Request, pages: Pages, api: Api, _: SignedIn) -> Response:
    """Show the form with the stored profile."""
    try:
        profile = (await api.call(request, "GET", "/api/profile")).json()
    except Refused as refusal:
        if refusal.status != 404:
            raise
        profile = {}
    return _page(request, pages, read_profile(profile), {})


@router.post("/onboarding")
async def order_plan(
    request: Request, pages: Pages, api: Api, _: SignedIn, form: Annotated[BusinessForm, Form()]
) -> Response:
    """Save the profile, order a plan and redirect to its page."""
    problems = find_problems(form)
    if problems:
        return _page(request, pages, form, problems)
    try:
        await api.call(request, "PUT", "/api/profile", json=write_profile(form))
    except Refused as refusal:
        if refusal.status != 422:
            raise
        return _page(request, pages, form, describe(refusal))
    answer = await api.call(request, "POST", "/api/plans", idempotency_key=form.order or uuid.uuid4().hex)
    return RedirectResponse(f"/plans/{answer.json()['id']}", status_code=303)


def read_profile(profile: dict[str, Any]) -> BusinessForm:
    """Convert a profile of the api to the form."""
    texts = ("business_name", "industry", "audience", "location", "website", "budget_per_month")
    values = {name: str(profile[name]) for name in texts if profile.get(name) is not None}
    return BusinessForm(**values, goals=profile.get("goals") or [], channels=profile.get("channels") or [])


def write_profile(form: BusinessForm) -> dict[str, Any]:
    """Convert the form to a profile of the api, without empty fields."""
    texts = {name: getattr(form, name).strip() for name in ("business_name", "industry", "audience")}
    optional = {name: getattr(form, name).strip() for name in ("location", "website")}
    budget = form.budget_per_month.strip()
    return (
        texts
        | {name: value for name, value in optional.items() if value}
        | ({"budget_per_month": int(budget)} if budget else {})
        | {"goals": form.goals, "channels": form.channels}
    )


def find_problems(form: BusinessForm) -> dict[str, str]:
    """Return the problems that can be found without the api."""
    required = ("business_name", "industry", "audience", "goals")
    missing = [name for name in required if not (getattr(form, name) and "".join(getattr(form, name)).strip())]
    budget = form.budget_per_month.strip()
    wrong = ["budget_per_month"] if budget and not (budget.isascii() and budget.isdigit()) else []
    return {name: _PROBLEMS[name] for name in (*missing, *wrong)}


def describe(refusal: Refused) -> dict[str, str]:
    """Map the api's refusal to a sentence for each field."""
    fields = {name: text for name, text in refusal.fields.items() if name in BusinessForm.model_fields}
    problems = {name: _PROBLEMS.get(name, text) for name, text in fields.items()}
    return problems or {"form": refusal.reason or "Something in the form cannot be read. Please look at it again."}


def _page(request: Request, pages: PageRenderer, form: BusinessForm, problems: dict[str, str]) -> Response:
    if not form.order:
        form = form.model_copy(update={"order": uuid.uuid4().hex})
    return pages.render(
        request,
        "onboarding.html",
        status_code=422 if problems else 200,
        page="onboarding",
        form=form,
        goals=GOALS,
        channels=CHANNELS,
        problems=problems,
    )
