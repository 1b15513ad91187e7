"""A stack around the services keeps resources of the running version until all services run the new one."""

from __future__ import annotations

from typing import Any

import pytest

from alva.release.expansion import expanded, holds, left_over
from alva.release.manifest import Manifest
from alva.release.plan import ApplyServices, ApplyStack, Observed, Wanted, make_plan
from alva.release.stack_state import ObservedStack


def rule(port: int) -> dict[str, Any]:
    return {"Type": "AWS::EC2::SecurityGroupIngress", "Properties": {"FromPort": port, "ToPort": port}}


def group(*ports: int) -> dict[str, Any]:
    rules = [{"IpProtocol": "tcp", "FromPort": port, "ToPort": port} for port in ports]
    return {"Type": "AWS::EC2::SecurityGroup", "Properties": {"SecurityGroupEgress": rules}}


def template(resources: dict[str, Any], **exports: str) -> dict[str, Any]:
    outputs = {name: {"Value": value, "Export": {"Name": name}} for name, value in exports.items()}
    return {"Resources": resources, **({"Outputs": outputs} if outputs else {})}


@pytest.mark.parametrize(
    ("new", "former", "both", "gone"),
    [
        ({"New": rule(2)}, {"Old": rule(1)}, {"New": rule(2), "Old": rule(1)}, ("Old",)),
        ({"Group": group(2)}, {"Group": group(1)}, {"Group": group(2, 1)}, ("Group",)),
        ({"Group": group(1, 2)}, {"Group": group(1)}, {"Group": group(1, 2)}, ()),
        ({"Same": rule(2)}, {"Same": rule(1)}, {"Same": rule(2)}, ()),
    ],
    ids=["removed rule", "removed rule within its group", "only added", "changed resource"],
)
def test_expanded_template_is_the_new_one_with_resources_of_the_former_one(
    new: dict[str, Any], former: dict[str, Any], both: dict[str, Any], gone: tuple[str, ...]
) -> None:
    assert expanded(template(new), template(former)) == template(both)
    assert left_over(template(new), template(former)) == gone


def test_export_and_parameter_of_the_former_version_stay_while_it_runs() -> None:
    former = {**template({"Vpc": rule(1)}, vpc="x", zone="y"), "Parameters": {"Old": {"Type": "String"}}}
    merged = expanded(template({"Vpc": rule(1)}, vpc="x"), former)
    assert set(merged["Outputs"]) == {"vpc", "zone"}
    assert set(merged["Parameters"]) == {"Old"}


def test_expanded_template_contains_the_resources_of_both_versions() -> None:
    new, former = template({"Group": group(2), "New": rule(2)}), template({"Group": group(1), "Old": rule(1)})
    both = expanded(new, former)
    assert holds(both, former)
    assert not holds(new, former)
    assert not holds(template({"Group": group(1), "Old": rule(9)}), former)


def plan_of(manifest: Manifest, now: dict[str, Any], wanted: dict[str, Any]) -> Any:
    """The plan that changes the network from `now` to `wanted`, and gives the services another image."""
    digests = {"web": "sha256:2", "api": "sha256:2"}
    parameters = {service.image_parameter: {"Type": "String"} for service in manifest.services}
    templates: dict[str, Any] = {stack.name: {} for stack in manifest.stacks}
    templates[manifest.stack("services").name] = {"Parameters": parameters}
    stacks = {
        name: ObservedStack(name=name, status="UPDATE_COMPLETE", template=each, tags=manifest.tags)
        for name, each in templates.items()
    }
    network = manifest.stack("network").name
    stacks[network] = ObservedStack(name=network, status="UPDATE_COMPLETE", template=now, tags=manifest.tags)
    observed = Observed(stacks=stacks, published=frozenset(digests), migrated_digest="sha256:2", secrets_ready=True)
    return make_plan(Wanted(manifest=manifest, templates={**templates, network: wanted}, digests=digests), observed)


def test_network_drops_the_former_port_only_after_the_services_have_verified(manifest: Manifest) -> None:
    network = manifest.stack("network").name
    now, wanted = template({"Old": rule(3003)}), template({"New": rule(3013)})
    plan = plan_of(manifest, now, wanted)
    (expand,) = [s for s in plan.steps if isinstance(s, ApplyStack) and s.stack.name == network]
    (services,) = [s for s in plan.steps if isinstance(s, ApplyServices)]
    assert expand.template == expanded(wanted, now)
    assert expand.key in services.after
    (contract,) = plan.clean_up
    assert (contract.stack.name, contract.template, contract.reasons) == (network, None, ("Old",))


def test_release_that_only_removes_something_has_only_a_contraction(manifest: Manifest) -> None:
    plan = plan_of(manifest, template({"Old": rule(1), "Kept": rule(2)}), template({"Kept": rule(2)}))
    assert not [s for s in plan.steps if isinstance(s, ApplyStack) and not isinstance(s, ApplyServices)]
    assert [step.stack.name for step in plan.clean_up] == [manifest.stack("network").name]


def test_release_that_only_adds_something_has_no_contraction(manifest: Manifest) -> None:
    plan = plan_of(manifest, template({"Kept": rule(2)}), template({"New": rule(1), "Kept": rule(2)}))
    assert plan.clean_up == ()
    assert [s.template for s in plan.steps if isinstance(s, ApplyStack)] == [None, None]
