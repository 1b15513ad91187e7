"""The pages in a real browser, with mouse and keyboard, with and without JavaScript."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.chromium import accessibility_findings

pytestmark = pytest.mark.browser

PUBLIC_PATHS = ("/", "/signup", "/signin?problem=link", "/check-mail", "/no-such-page")
ADMIN_PATHS = ("/admin", "/admin/users", "/admin/plans", "/admin/jobs", "/admin/audit")
OpenTab = Callable[..., Page]
TakePicture = Callable[[Page, str], None]


@pytest.fixture(scope="session")
def people() -> dict[str, Any]:
    """The users for the tests that only read."""
    return {}


@pytest.fixture
def customer(sign_up: Callable[..., Any], people: dict[str, Any]) -> Any:
    """A customer."""
    if "customer" not in people:
        people["customer"] = sign_up(f"customer-{secrets.token_hex(4)}@example.com")
    return people["customer"]


@pytest.fixture
def administrator(sign_up_administrator: Callable[[], Any], people: dict[str, Any]) -> Any:
    """An administrator."""
    if "administrator" not in people:
        people["administrator"] = sign_up_administrator()
    return people["administrator"]


@pytest.fixture
def plan_path(customer: Any, open_tab: OpenTab, worker: Any, people: dict[str, Any]) -> str:  # noqa: ARG001 - it makes the plan
    """The path of one of the customer's finished plans."""
    if "plan" not in people:
        page = open_tab(person=customer)
        _order_plan(page)
        expect(page.get_by_role("heading", name="Quick wins")).to_be_visible()
        people["plan"] = re.sub(r"^https?://[^/]+", "", page.url)
    path: str = people["plan"]
    return path


def _order_plan(page: Page) -> None:
    page.goto("/onboarding")
    page.get_by_label("Name of the business").fill("Hagen’s Bakery")
    page.get_by_label("What it does").fill("Bakery with a café")
    page.get_by_label("Who your customers are").fill("Neighbours who come home from work")
    page.get_by_label("More new customers").check()
    page.get_by_role("button", name="Make my plan").click()
    page.wait_for_url("**/plans/*")


@pytest.mark.parametrize("is_phone", [False, True], ids=["desktop", "phone"])
def test_visitor_signs_up_and_gets_to_the_board(
    open_tab: OpenTab,
    outside: Any,
    worker: Any,  # noqa: ARG001
    take_picture: TakePicture,
    is_phone: bool,
) -> None:
    email = f"browser-{secrets.token_hex(4)}@example.com"
    page = open_tab(is_phone=is_phone)
    page.goto("/")
    take_picture(page, "1-first-page")
    page.get_by_role("link", name="Get your plan").click()
    page.get_by_label("E-mail address").fill(email)
    take_picture(page, "2-sign-up")
    page.get_by_role("button", name="Send me the link").click()
    expect(page.get_by_role("heading", name="Check your mail")).to_be_visible()

    page.goto(f"/auth/verify?token={outside.link_for(email)}")
    expect(page.get_by_role("heading", name="About your business")).to_be_visible()

    outside.seconds_per_chunk = 0.15
    _order_plan(page)
    expect(page.get_by_role("heading", name="Your plan is being made")).to_be_visible()
    page.evaluate("window.isSamePage = true")
    expect(page.get_by_role("progressbar")).to_have_attribute("value", re.compile(r"[2-9]\d"))
    assert page.evaluate("window.isSamePage"), "progress comes by events, not by loading the page again"
    take_picture(page, "3-in-the-making")

    expect(page.get_by_role("heading", name="Quick wins")).to_be_visible()
    take_picture(page, "4-plan")
    page.get_by_role("link", name="Board", exact=True).click()
    to_do, doing = page.get_by_role("region", name="To do"), page.get_by_role("region", name="Doing")
    title = to_do.get_by_role("heading", level=3).first.inner_text()
    to_do.get_by_role("button", name=f"Start {title}").click()
    expect(doing.get_by_role("heading", name=title)).to_be_visible()
    take_picture(page, "5-board")

    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/")
    expect(page.get_by_role("link", name="Get your plan")).to_be_visible()
    page.goto("/plans")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_link_opened_in_another_browser_is_confirmed_with_one_button(
    open_tab: OpenTab, outside: Any, take_picture: TakePicture
) -> None:
    email = f"elsewhere-{secrets.token_hex(4)}@example.com"
    desk, phone = open_tab(), open_tab(is_phone=True)
    desk.goto("/signup")
    desk.get_by_label("E-mail address").fill(email)
    desk.get_by_role("button", name="Send me the link").click()
    phone.goto(f"/auth/verify?token={outside.link_for(email)}")
    expect(phone.get_by_role("heading", name="Sign in on this device?")).to_be_visible()
    take_picture(phone, "confirm")
    phone.get_by_role("button", name="Sign in here").click()
    expect(phone.get_by_role("heading", name="About your business")).to_be_visible()


def test_sign_up_to_plan_works_without_scripts(open_tab: OpenTab, outside: Any, worker: Any) -> None:  # noqa: ARG001
    email = f"plain-{secrets.token_hex(4)}@example.com"
    page = open_tab(java_script_enabled=False)
    page.goto("/signup")
    page.get_by_label("E-mail address").fill(email)
    page.get_by_role("button", name="Send me the link").click()
    page.goto(f"/auth/verify?token={outside.link_for(email)}")
    outside.seconds_per_chunk = 0.1
    _order_plan(page)
    expect(page.get_by_role("heading", name="Your plan is being made")).to_be_visible()
    expect(page.get_by_role("heading", name="Quick wins")).to_be_visible()
    page.get_by_role("link", name="Board", exact=True).click()
    page.get_by_role("button", name=re.compile("^Start")).first.click()
    expect(page.get_by_role("region", name="Doing").get_by_role("heading", level=3)).to_have_count(1)


@pytest.mark.parametrize(
    ("is_phone", "scheme"),
    [
        pytest.param(False, "light", id="desktop-light"),
        pytest.param(True, "dark", id="phone-dark", marks=pytest.mark.nightly),
        pytest.param(False, "dark", id="desktop-dark", marks=pytest.mark.nightly),
        pytest.param(True, "light", id="phone-light", marks=pytest.mark.nightly),
    ],
)
def test_axe_finds_nothing_on_any_page(
    open_tab: OpenTab,
    customer: Any,
    administrator: Any,
    plan_path: str,
    take_picture: TakePicture,
    is_phone: bool,
    scheme: str,
) -> None:
    # The Content-Security-Policy would block axe. The other tests run with the policy.
    options: dict[str, Any] = {"is_phone": is_phone, "color_scheme": scheme, "bypass_csp": True}
    tabs = {
        PUBLIC_PATHS: open_tab(**options),
        ("/plans", "/onboarding", "/account", plan_path, f"{plan_path}/board"): open_tab(person=customer, **options),
        ADMIN_PATHS: open_tab(person=administrator, **options),
    }
    for paths, page in tabs.items():
        for path in paths:
            page.goto(path)
            take_picture(page, re.sub(r"\W+", "-", path))
            assert accessibility_findings(page) == [], path
            overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert overflow <= 0, f"{path} is wider than the screen by {overflow} px"


def test_axe_finds_nothing_on_a_form_with_problems(open_tab: OpenTab, customer: Any, take_picture: TakePicture) -> None:
    page = open_tab(person=customer, bypass_csp=True)
    page.goto("/onboarding")
    page.evaluate("document.querySelector('main form').noValidate = true")
    for label in ("Name of the business", "Who your customers are"):
        page.get_by_label(label).fill("")
    page.get_by_role("button", name="Make my plan").click()
    expect(page.get_by_role("alert")).to_be_visible()
    take_picture(page, "problems")
    assert accessibility_findings(page) == []
    page.get_by_role("link", name="Please enter the name of your business.").click()
    expect(page.get_by_label("Name of the business")).to_be_focused()


def test_pages_are_narrow_enough_for_large_letters(open_tab: OpenTab, customer: Any, plan_path: str) -> None:
    """WCAG 2.2, 1.4.10: at 320 CSS pixels, which is 400 % on a desktop, nothing scrolls sideways."""
    page = open_tab(person=customer)
    page.set_viewport_size({"width": 320, "height": 640})
    for path in ("/", "/signup", "/plans", "/onboarding", "/account", plan_path, f"{plan_path}/board"):
        page.goto(path)
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, f"{path} is wider than the screen by {overflow} px"


def test_keyboard_alone_signs_up(open_tab: OpenTab) -> None:
    page = open_tab()
    page.goto("/signup")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "the focus is visible"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_label("E-mail address")).to_be_focused()
    page.keyboard.type(f"keys-{secrets.token_hex(4)}@example.com")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Check your mail")).to_be_visible()


def test_session_that_expires_while_a_plan_is_made_is_renewed(
    open_tab: OpenTab,
    outside: Any,
    worker: Any,  # noqa: ARG001
) -> None:
    email = f"patient-{secrets.token_hex(4)}@example.com"
    page = open_tab()
    page.goto("/signup")
    page.get_by_label("E-mail address").fill(email)
    page.get_by_role("button", name="Send me the link").click()
    page.goto(f"/auth/verify?token={outside.link_for(email)}")
    outside.seconds_per_chunk = 0.1
    _order_plan(page)
    page.context.clear_cookies(name="alva_access")
    page.reload()
    expect(page.get_by_role("heading", name="Quick wins")).to_be_visible()


@pytest.mark.parametrize(
    "is_phone",
    [pytest.param(True, id="phone"), pytest.param(False, id="desktop", marks=pytest.mark.nightly)],
)
def test_administrator_helps_a_customer_and_invites_another_administrator(
    open_tab: OpenTab,
    sign_up: Callable[..., Any],
    sign_up_administrator: Callable[[], Any],
    outside: Any,
    worker: Any,  # noqa: ARG001
    take_picture: TakePicture,
    is_phone: bool,
) -> None:
    # A plan that could not be made, and one that its customer stops.
    customer, office = open_tab(person=sign_up()), open_tab(person=sign_up_administrator(), is_phone=is_phone)
    outside.plan_faults.append(401)
    _order_plan(customer)
    expect(customer.get_by_role("heading", name="This plan could not be made")).to_be_visible()
    job = customer.url.rpartition("/")[2]
    outside.seconds_per_chunk = 0.5
    customer.get_by_role("link", name="Make a new one").click()
    customer.get_by_role("button", name="Make my plan").click()
    customer.get_by_role("button", name="Stop making this plan").click()
    expect(customer.get_by_role("heading", name="This plan was stopped")).to_be_visible()
    outside.seconds_per_chunk = 0.0

    office.goto("/admin")
    office.get_by_role("link", name="Failed jobs").click()
    take_picture(office, "1-failed")
    try_again = office.get_by_role("button", name=f"Try again with job {job}")
    expect(try_again).to_be_in_viewport()  # Without horizontal scrolling, also on a phone.
    try_again.click()
    expect(office.get_by_text("The job is back in the queue.")).to_be_visible()
    take_picture(office, "2-tried-again")
    customer.goto(f"/plans/{job}")
    expect(customer.get_by_role("heading", name="Quick wins")).to_be_visible()

    guest = f"guest-{secrets.token_hex(4)}@example.com"
    office.get_by_role("link", name="Users").click()
    office.get_by_role("textbox", name="E-mail address").fill(guest)
    office.get_by_role("combobox", name="Role", exact=True).select_option("admin")
    office.get_by_role("button", name="Send the invitation").click()
    expect(office.get_by_text("The invitation is on its way.")).to_be_visible()
    invited = open_tab(is_phone=is_phone)
    invited.goto(f"/auth/verify?token={outside.link_for(guest)}")
    invited.get_by_role("button", name="Sign in here").click()
    expect(invited.get_by_role("heading", name="About your business")).to_be_visible()
    invited.goto("/admin")
    expect(invited.get_by_role("heading", name="Overview")).to_be_visible()
    office.get_by_role("link", name="Audit log").click()
    expect(office.get_by_role("row").filter(has_text="invited").filter(has_text=guest)).to_be_visible()
    take_picture(office, "3-audit-log")


def test_user_sets_a_password_and_signs_out_everywhere(open_tab: OpenTab, outside: Any) -> None:
    email, password = f"lost-{secrets.token_hex(4)}@example.com", secrets.token_urlsafe(12)
    desk, phone = open_tab(), open_tab(is_phone=True)
    desk.goto("/signup")
    desk.get_by_label("E-mail address").fill(email)
    desk.get_by_role("button", name="Send me the link").click()
    desk.goto(f"/auth/verify?token={outside.link_for(email)}")
    desk.get_by_role("link", name="Account").click()
    desk.get_by_label("New password").fill(password)
    desk.get_by_role("button", name="Set the password").click()
    expect(desk.get_by_text("Your password is set.")).to_be_visible()
    phone.goto("/signin")
    phone.get_by_label("E-mail address").fill(email)
    phone.get_by_label("Password").fill(password)
    phone.get_by_role("button", name="Sign in", exact=True).click()
    expect(phone.get_by_role("heading", name="Your plans")).to_be_visible()
    desk.get_by_role("button", name="Sign out everywhere").click()
    expect(desk.get_by_role("link", name="Get your plan")).to_be_visible()
    phone.context.clear_cookies(name="alva_access")  # like ten minutes of waiting
    phone.goto("/plans")
    expect(phone.get_by_role("heading", name="Sign in")).to_be_visible()


def test_script_in_a_business_name_does_not_run(
    open_tab: OpenTab,
    sign_up: Callable[..., Any],
    worker: Any,  # noqa: ARG001
) -> None:
    page = open_tab(person=sign_up(f"script-{secrets.token_hex(4)}@example.com"))
    page.goto("/onboarding")
    attack = "</h1><script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"
    page.get_by_label("Name of the business").fill(attack)
    page.get_by_label("What it does").fill("Bakery")
    page.get_by_label("Who your customers are").fill("Neighbours")
    page.get_by_label("More new customers").check()
    page.get_by_role("button", name="Make my plan").click()
    # The page reloads when its plan is ready, which would replace the next page.
    expect(page.get_by_role("heading", name="Quick wins")).to_be_visible()
    page.goto("/plans")
    expect(page.get_by_role("link", name=attack)).to_be_visible()
    assert page.title() == "Your plans · Alva"
