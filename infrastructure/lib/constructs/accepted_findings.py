"""Findings of the scanners that are accepted, each with its reason, next to the resource that they are about."""

from __future__ import annotations

import aws_cdk as cdk


def accept(resource: cdk.CfnResource, reason: str, *rule_ids: str) -> None:
    """Accept the findings `rule_ids` on this one resource: `AwsSolutions-...` (cdk-nag) and `CKV...` (checkov).

    cdk-nag reads CDK's acknowledgements, checkov the resource's metadata in the template.
    """
    nag = [rule_id for rule_id in rule_ids if rule_id.startswith("AwsSolutions-")]
    checkov = [rule_id for rule_id in rule_ids if rule_id.startswith("CKV")]
    if unknown := set(rule_ids) - {*nag, *checkov}:
        raise ValueError(f"cannot accept {', '.join(sorted(unknown))}: neither of cdk-nag nor of checkov")
    for rule_id in nag:
        cdk.Validations.of(resource).acknowledge(cdk.Acknowledgment(id=rule_id, reason=reason))
    if checkov:
        known = (resource.get_metadata("checkov") or {}).get("skip", [])
        skip = [*known, *({"id": rule_id, "comment": reason} for rule_id in checkov)]
        resource.add_metadata("checkov", {"skip": skip})
