"""The verdicts of the verification's checks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from alva.errors import VerificationFailed
from alva.release.manifest import Manifest
from alva.release.public_endpoint import Answer
from alva.release.verify import Result, Verdict, judge_answer, probe_paths, require

DIGEST = "sha256:" + "a" * 64


def answer(status: int, digest: str | None) -> Answer:
    return Answer(status=status, headers={"x-alva-digest": digest} if digest else {}, body="")


def test_prefix_is_requested_alone_with_a_slash_and_with_a_path(manifest: Manifest) -> None:
    admin = replace(manifest.service("api"), paths=("/admin", "/admin/*"))
    assert probe_paths(admin) == ["/admin", "/admin/", "/admin/x"]
    assert probe_paths(replace(admin, host="admin.example.com")) == ["/admin", "/admin/", "/admin/x"]
    assert probe_paths(manifest.service("web")) == ["/"]


@pytest.mark.parametrize("status", [200, 303, 401, 404])
def test_response_of_the_expected_digest_passes_even_if_it_refuses(status: int) -> None:
    assert judge_answer(answer(status, DIGEST), DIGEST)[0] is Verdict.OK


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        (answer(200, "sha256:" + "b" * 64), Verdict.FAIL),
        (answer(503, DIGEST), Verdict.FAIL),
        (answer(502, None), Verdict.FAIL),
        (answer(200, None), Verdict.OK),
        (answer(403, None), Verdict.OK),
        (answer(503, None), Verdict.FAIL),
    ],
)
def test_header_that_names_another_image_fails_and_an_image_need_not_have_one(given: Answer, verdict: Verdict) -> None:
    assert judge_answer(given, DIGEST)[0] is verdict


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        (answer(200, DIGEST), Verdict.OK),
        (answer(200, None), Verdict.OK),
        (answer(303, DIGEST), Verdict.OK),
        (answer(404, DIGEST), Verdict.FAIL),
        (answer(404, None), Verdict.FAIL),
        (answer(429, DIGEST), Verdict.FAIL),
        (answer(403, DIGEST), Verdict.FAIL),
        (answer(403, None), Verdict.SKIP),
    ],
    ids=[
        "there",
        "there without a header",
        "leads on",
        "not there",
        "rule missing",
        "too many",
        "forbidden",
        "refused by the load balancer",
    ],
)
def test_home_page_must_exist(given: Answer, verdict: Verdict) -> None:
    assert judge_answer(given, DIGEST, is_page=True)[0] is verdict


def test_one_failed_check_fails_the_verification_and_is_named() -> None:
    good = Result(name="web answers /", verdict=Verdict.OK, reason="HTTP 200")
    bad = Result(name="api answers /api", verdict=Verdict.FAIL, reason="HTTP 503")
    require([good])
    with pytest.raises(VerificationFailed, match="1 of 2") as caught:
        require([good, bad])
    assert caught.value.exit_code == 7
    assert caught.value.evidence == ("api answers /api: HTTP 503",)
