"""Services that the region does not have."""

from __future__ import annotations

import pytest
from botocore.loaders import Loader
from ministack import app
from ministack.core import router

from alva.region import offered_services


@pytest.fixture
def routed(monkeypatch: pytest.MonkeyPatch) -> None:
    """MiniStack's router as the region changes it."""
    for name in (
        "_handle_special_data_plane_request",
        "_resolve_custom_domain_request",
        "_handle_admin_reset",
        "_handle_admin_config_request",
    ):
        monkeypatch.setattr(app, name, getattr(app, name))
    monkeypatch.setattr(router, "_is_aws_service_name", router._is_aws_service_name)
    offered_services.disable_other_entry_points(app)


@pytest.mark.parametrize(
    ("name", "is_one"), [("glacier", True), ("states", True), ("email", True), ("nonsense", False)]
)
@pytest.mark.usefixtures("routed")
def test_service_is_recognised_by_its_name_without_the_models_of_all_services(
    monkeypatch: pytest.MonkeyPatch, name: str, is_one: bool
) -> None:
    monkeypatch.setattr(Loader, "load_service_model", lambda *_, **__: pytest.fail("read the model of a service"))
    assert router._is_aws_service_name(name) == is_one
