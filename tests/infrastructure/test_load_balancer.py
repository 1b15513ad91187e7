"""The load balancer, its listeners, and the rules that decide which service answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from lib.config.environments import STAGING
from lib.config.settings import Domain

CERTIFICATE = "arn:aws:acm:us-east-1:123456789012:certificate/0a1b2c3d-0000-0000-0000-000000000000"
DOMAIN = Domain(name="example.com", hosted_zone_id="Z0123456789ABC")


def attributes(synthesis: Any) -> dict[str, Any]:
    balancer = synthesis.one("alb", "ElasticLoadBalancingV2::LoadBalancer")
    return {each["Key"]: each["Value"] for each in balancer["LoadBalancerAttributes"]}


def rules(synthesis: Any) -> list[dict[str, Any]]:
    found = [each.properties for each in synthesis.resources("services", "ElasticLoadBalancingV2::ListenerRule")]
    return sorted(found, key=lambda rule: rule["Priority"])


def paths(rule: dict[str, Any]) -> list[str]:
    (condition,) = [each for each in rule["Conditions"] if each["Field"] == "path-pattern"]
    return condition["PathPatternConfig"]["Values"]  # type: ignore[no-any-return]


def served_by(synthesis: Any, path: str) -> str:
    """Return the service to which the rules route a path. Patterns are exact or end in `*`, and are case-sensitive."""
    for rule in rules(synthesis):
        if any(path == each or (each.endswith("*") and path.startswith(each[:-1])) for each in paths(rule)):
            action = rule["Actions"][0]
            target = action["TargetGroupArn"]["Ref"] if action["Type"] == "forward" else action["Type"]
            return str(target).partition("TargetGroup")[0].lower()
    return "nobody"


def test_load_balancer_is_internet_facing_in_the_public_subnets(staging: Any) -> None:
    balancer = staging.one("alb", "ElasticLoadBalancingV2::LoadBalancer")
    assert (balancer["Scheme"], balancer["Type"], balancer["Name"]) == (
        "internet-facing",
        "application",
        "alva-staging-alb",
    )
    assert len(balancer["Subnets"]) == 2
    assert all("RefPublicSubnet" in subnet["Fn::ImportValue"] for subnet in balancer["Subnets"])


def test_name_is_in_lower_case_for_comparisons_of_origins(staging: Any) -> None:
    name = staging.one("alb", "ElasticLoadBalancingV2::LoadBalancer")["Name"]
    assert name == name.lower()


def test_invalid_headers_are_dropped(staging: Any) -> None:
    assert attributes(staging)["routing.http.drop_invalid_header_fields.enabled"] == "true"
    assert attributes(staging)["idle_timeout.timeout_seconds"] == "60"


def test_without_a_certificate_http_is_served_and_unknown_hosts_get_404(staging: Any) -> None:
    listener = staging.one("alb", "ElasticLoadBalancingV2::Listener")
    assert (listener["Port"], listener["Protocol"]) == (80, "HTTP")
    assert listener["DefaultActions"][0]["FixedResponseConfig"]["StatusCode"] == "404"


def test_a_certificate_enables_443_and_the_redirect_from_80(synthesise: Callable[..., Any]) -> None:
    secure = synthesise(STAGING.with_settings(load_balancer__certificate_arn=CERTIFICATE))
    http = secure.one("alb", "ElasticLoadBalancingV2::Listener", Port=80)
    redirect = http["DefaultActions"][0]["RedirectConfig"]
    assert (redirect["Protocol"], redirect["Port"], redirect["StatusCode"]) == ("HTTPS", "443", "HTTP_301")
    https = secure.one("alb", "ElasticLoadBalancingV2::Listener", Port=443)
    assert https["Certificates"] == [{"CertificateArn": CERTIFICATE}]
    assert https["SslPolicy"] == "ELBSecurityPolicy-TLS13-1-2-2021-06"
    listeners = {
        each.properties["Port"]: each.logical_id for each in secure.resources("alb", "ElasticLoadBalancingV2::Listener")
    }
    for rule in rules(secure):
        assert listeners[443] in rule["ListenerArn"]["Fn::ImportValue"]
    outputs = secure.template("alb")["Outputs"]
    assert outputs["Url"]["Value"]["Fn::Join"][1][0] == "https://"
    assert outputs["Address"]["Value"]["Fn::GetAtt"][1] == "DNSName"


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/", "web"),
        ("/plans", "web"),
        ("/apiary", "web"),
        ("/API/plans", "web"),
        ("/api", "api"),
        ("/api/", "api"),
        ("/api/plans", "api"),
        ("/auth", "auth"),
        ("/auth/", "auth"),
        ("/auth/sign-in", "auth"),
        ("/admin", "admin"),
        ("/admin/", "admin"),
        ("/admin/users", "admin"),
    ],
)
def test_path_reaches_its_service(staging: Any, path: str, service: str) -> None:
    assert served_by(staging, path) == service


def test_rules_have_priorities_of_their_own(staging: Any) -> None:
    priorities = [rule["Priority"] for rule in rules(staging)]
    assert len(priorities) == len(set(priorities)) == 4


def test_a_domain_gives_each_service_a_host_and_a_certificate(synthesise: Callable[..., Any]) -> None:
    named = synthesise(STAGING.with_settings(domain=DOMAIN))
    hosts = {
        rule["Actions"][0]["TargetGroupArn"]["Ref"].partition("TargetGroup")[0].lower(): rule["Conditions"]
        for rule in rules(named)
    }
    expected = {
        "web": "staging.example.com",
        "api": "api-staging.example.com",
        "auth": "auth-staging.example.com",
        "admin": "admin-staging.example.com",
    }
    assert hosts == {
        service: [{"Field": "host-header", "HostHeaderConfig": {"Values": [host]}}]
        for service, host in expected.items()
    }
    certificate = named.one("alb", "CertificateManager::Certificate")
    assert {certificate["DomainName"], *certificate["SubjectAlternativeNames"]} == set(expected.values())
    assert {each["HostedZoneId"] for each in certificate["DomainValidationOptions"]} == {"Z0123456789ABC"}
    records = {each.properties["Name"] for each in named.resources("alb", "Route53::RecordSet")}
    assert records == {f"{host}." for host in expected.values()}
    assert {service["name"]: service["host"] for service in named.manifest["services"]} == expected


def test_allowlist_refuses_other_clients_instead_of_routing_them_to_web(synthesise: Callable[..., Any]) -> None:
    guarded = synthesise(STAGING.with_settings(load_balancer__admin_allowed_cidrs=("203.0.113.0/24",)))
    allowed, refused = [rule for rule in rules(guarded) if "/admin" in paths(rule)]
    assert allowed["Conditions"][1] == {"Field": "source-ip", "SourceIpConfig": {"Values": ["203.0.113.0/24"]}}
    assert allowed["Actions"][0]["Type"] == "forward"
    assert paths(refused) == paths(allowed)
    assert refused["Actions"][0]["FixedResponseConfig"]["StatusCode"] == "403"
    assert [rule for rule in rules(guarded) if len(rule["Conditions"]) > 1] == [allowed], "the other services stay open"


def test_access_logs_go_to_a_private_bucket(staging: Any, synthesise: Callable[..., Any]) -> None:
    assert "access_logs.s3.enabled" not in attributes(staging)
    logged = synthesise(STAGING.with_settings(load_balancer__access_logs=True))
    assert attributes(logged)["access_logs.s3.enabled"] == "true"
    bucket = logged.one("alb", "S3::Bucket")
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    (balancer,) = logged.resources("alb", "ElasticLoadBalancingV2::LoadBalancer")
    (policy,) = logged.resources("alb", "S3::BucketPolicy")
    assert policy.logical_id in balancer.definition["DependsOn"], "it writes a test object when it is created"
    (writes,) = [
        each for each in policy.properties["PolicyDocument"]["Statement"] if each["Sid"] == "LoadBalancerWrites"
    ]
    assert writes["Principal"]["Service"] == "logdelivery.elasticloadbalancing.amazonaws.com"
    assert "127311923021" in json.dumps(writes["Principal"]["AWS"]), "the account that writes in us-east-1"


def test_web_acl_allows_bodies_that_the_services_accept(synthesise: Callable[..., Any]) -> None:
    """The managed rule blocks bodies above 8 KB; the contract of a service allows 256 KiB."""
    guarded = synthesise(STAGING.with_settings(load_balancer__web_acl=True))
    counted = {
        override["Name"]
        for rule in guarded.one("alb", "WAFv2::WebACL")["Rules"]
        for override in rule["Statement"].get("ManagedRuleGroupStatement", {}).get("RuleActionOverrides", [])
        if override["ActionToUse"] == {"Count": {}}
    }
    assert counted == {"SizeRestrictions_BODY", "CrossSiteScripting_BODY", "GenericRFI_BODY", "SQLi_BODY"}
    (alarm,) = [
        each.properties
        for each in guarded.resources("monitoring", "CloudWatch::Alarm")
        if each.properties["AlarmName"] == "alva-staging-web-acl-blocks"
    ]
    assert {each["Name"]: each["Value"] for each in alarm["Dimensions"]} == {
        "WebACL": guarded.one("alb", "WAFv2::WebACL")["Name"],
        "Region": "us-east-1",
        "Rule": "ALL",
    }


def test_web_acl_holds_managed_rules_and_a_rate_limit(staging: Any, synthesise: Callable[..., Any]) -> None:
    assert staging.resources("alb", "WAFv2::WebACL") == []
    guarded = synthesise(STAGING.with_settings(load_balancer__web_acl=True))
    rules_by_name = {rule["Name"]: rule for rule in guarded.one("alb", "WAFv2::WebACL")["Rules"]}
    assert {
        "AWSManagedRulesCommonRuleSet",
        "AWSManagedRulesKnownBadInputsRuleSet",
        "AWSManagedRulesSQLiRuleSet",
        "rate",
    } <= set(rules_by_name)
    assert rules_by_name["rate"]["Action"] == {"Block": {}}
    assert guarded.one("alb", "WAFv2::WebACLAssociation")["ResourceArn"] == {"Ref": "LoadBalancer"}
