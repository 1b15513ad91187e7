"""The monthly cost, from the templates and the price table."""

from __future__ import annotations

import copy
import datetime
from collections.abc import Callable
from typing import Any

import pytest
from lib.config.environments import PRODUCTION, STAGING, Environment
from lib.config.savings import savings
from lib.config.settings import WorkingHours

from alva.checks.assembly import Assembly
from alva.checks.cost import Prices, bill, total
from alva.errors import AlvaError


def assembly_of(synthesis: Any) -> Assembly:
    prefix = f"{synthesis.environment.prefix}-"
    names = [stack["name"] for stack in synthesis.manifest["stacks"]]
    return Assembly(synthesis.manifest, {name: synthesis.template(name.removeprefix(prefix)) for name in names})


def month(synthesis: Any) -> float:
    return total(bill(assembly_of(synthesis), Prices.read()))


def amounts(synthesis: Any, subject: str) -> list[float]:
    return [round(item.usd, 2) for item in bill(assembly_of(synthesis), Prices.read()) if item.subject == subject]


def test_cost_of_staging_is_the_sum_of_its_parts(staging: Any) -> None:
    # 730 hours: 0.5 vCPU at 0.04048 and 1 GB at 0.004445; a NAT gateway at 0.045; db.t3.micro at 0.018; 20 GB at 0.115.
    assert amounts(staging, "alva-api") == [18.02]
    assert amounts(staging, "alva-staging-network/NatGatewayA") == [32.85]
    assert amounts(staging, "alva-staging-database") == [13.14, 2.30, 0.40], "instance, storage, secret of that name"
    assert amounts(staging, "alva-staging-redis") == [12.41]
    assert amounts(staging, "alva-staging-alb") == [16.43, 7.30, 5.84], "balancer, two addresses, one capacity unit"
    assert 150 < month(staging) < 250


def test_every_secret_and_alarm_is_on_the_bill(staging: Any) -> None:
    items = bill(assembly_of(staging), Prices.read())
    alarms = [each for each in staging.all_resources() if each.type == "AWS::CloudWatch::Alarm"]
    assert len(alarms) > 30
    assert sum(item.what == "secret" for item in items) == 7
    assert sum(item.what == "alarm" for item in items) == len(alarms)


def test_multi_az_and_replicas_cost_twice(production: Any) -> None:
    instance, storage, _ = amounts(production, "alva-production-database")
    assert instance == pytest.approx(2 * 0.168 * 730, abs=0.01)
    assert storage == pytest.approx(2 * 100 * 0.115, abs=0.01)
    assert amounts(production, "alva-production-redis") == [round(2 * 0.158 * 730, 2)]


def test_sleeping_environment_costs_only_the_hours_in_which_it_runs(synthesise: Callable[[Environment], Any]) -> None:
    daily = synthesise(STAGING.with_settings(working_hours=WorkingHours(start_hour=8, stop_hour=20)))
    assert amounts(daily, "alva-api") == [round(18.02005 * 60 / 168, 2)]
    instance, storage, _ = amounts(daily, "alva-staging-database")
    assert instance == round(13.14 * 65 / 168, 2), "it starts an hour earlier"
    assert storage == 2.30, "storage is paid for at night too"


@pytest.mark.parametrize("environment", [STAGING, PRODUCTION], ids=["staging", "production"])
def test_every_saving_reduces_the_cost_and_all_together_reduce_it_most(
    environment: Environment, synthesise: Callable[[Environment], Any]
) -> None:
    now = month(synthesise(environment))
    cheaper = {saving.name: month(synthesise(saving.environment)) for saving in savings(environment)}
    assert "nat-instance" in cheaper
    assert all(usd < now for usd in cheaper.values()), cheaper
    assert min(cheaper, key=cheaper.__getitem__) == "all-of-them"


def test_savings_that_an_environment_uses_are_not_offered() -> None:
    offered = [saving.name for saving in savings(STAGING.with_settings(tasks__arm64=True))]
    assert "arm64" not in offered
    assert "no-container-insights" not in offered, "staging has none"
    assert "no-container-insights" in [saving.name for saving in savings(PRODUCTION)]


def test_type_without_a_price_is_an_error_not_a_free_resource(staging: Any) -> None:
    assembly = assembly_of(staging)
    templates = copy.deepcopy(dict(assembly.templates))
    templates["alva-staging-network"]["Resources"]["Vpn"] = {"Type": "AWS::EC2::VPNGateway", "Properties": {}}
    with pytest.raises(AlvaError, match="AWS::EC2::VPNGateway is unknown"):
        bill(Assembly(assembly.manifest, templates), Prices.read())


def test_class_without_a_price_is_an_error(staging: Any) -> None:
    assembly = assembly_of(staging)
    templates = copy.deepcopy(dict(assembly.templates))
    templates["alva-staging-database"]["Resources"]["Instance"]["Properties"]["DBInstanceClass"] = "db.x9.mega"
    with pytest.raises(AlvaError, match=r"cannot price rds_instance_hour db\.x9\.mega"):
        bill(Assembly(assembly.manifest, templates), Prices.read())


def test_every_class_that_a_setting_allows_has_a_price() -> None:
    from lib.config.settings import CACHE_NODE_TYPES, DATABASE_CLASSES

    prices = Prices.read()
    assert all(prices.of("rds_instance_hour", each) > 0 for each in DATABASE_CLASSES)
    assert all(prices.of("cache_node_hour", each) > 0 for each in CACHE_NODE_TYPES)


def test_price_table_shows_its_age() -> None:
    assert datetime.date.fromisoformat(Prices.read().as_of) >= datetime.date(2026, 11, 1)
