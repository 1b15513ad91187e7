"""Accepted findings of the scanners. Each has a reason, beside the resource."""

from __future__ import annotations

import re

import aws_cdk as cdk


def accept(resource: cdk.CfnResource, reason: str, *rule_ids: str) -> None:
    """Accept the findings `rule_ids` on this resource: of cdk-nag (`AwsSolutions-`), checkov (`CKV`) or cfn-lint (`W`).

    cdk-nag reads CDK's acknowledgements. The other two read the resource's metadata in the template.
    """
    nag = [rule_id for rule_id in rule_ids if rule_id.startswith("AwsSolutions-")]
    checkov = [rule_id for rule_id in rule_ids if rule_id.startswith("CKV")]
    cfn_lint = [rule_id for rule_id in rule_ids if re.fullmatch(r"W\d{4}", rule_id)]
    if unknown := set(rule_ids) - {*nag, *checkov, *cfn_lint}:
        raise ValueError(f"cannot accept {', '.join(sorted(unknown))}: no scanner of the templates has such a rule")
    for rule_id in nag:
        cdk.Validations.of(resource).acknowledge(cdk.Acknowledgment(id=rule_id, reason=reason))
    for rule_id in cfn_lint:
        # CDK's validation has some of the same rules.
        cdk.Validations.of(resource).acknowledge(
            cdk.Acknowledgment(id=f"CloudFormation-Validate::{rule_id}", reason=reason)
        )
    if checkov:
        known = (resource.get_metadata("checkov") or {}).get("skip", [])
        skip = [*known, *({"id": rule_id, "comment": reason} for rule_id in checkov)]
        resource.add_metadata("checkov", {"skip": skip})
    if cfn_lint:
        resource.add_metadata("cfn-lint", {"config": {"ignore_checks": cfn_lint}})
