"""Findings of the scanners that are accepted, each with its reason, next to the resource that they are about."""

from __future__ import annotations

import re

import aws_cdk as cdk


def accept(resource: cdk.CfnResource, reason: str, *rule_ids: str) -> None:
    """Accept the findings `rule_ids` on this one resource: `AwsSolutions-...` of cdk-nag, `CKV...` of checkov, `W...`
    of cfn-lint.

    cdk-nag reads CDK's acknowledgements, the other two the resource's metadata in the template.
    """
    nag = [rule_id for rule_id in rule_ids if rule_id.startswith("AwsSolutions-")]
    checkov = [rule_id for rule_id in rule_ids if rule_id.startswith("CKV")]
    cfn_lint = [rule_id for rule_id in rule_ids if re.fullmatch(r"W\d{4}", rule_id)]
    if unknown := set(rule_ids) - {*nag, *checkov, *cfn_lint}:
        raise ValueError(f"cannot accept {', '.join(sorted(unknown))}: of no scanner that looks at the templates")
    for rule_id in nag:
        cdk.Validations.of(resource).acknowledge(cdk.Acknowledgment(id=rule_id, reason=reason))
    for rule_id in cfn_lint:
        # CDK's own validation knows some of the same rules.
        cdk.Validations.of(resource).acknowledge(
            cdk.Acknowledgment(id=f"CloudFormation-Validate::{rule_id}", reason=reason)
        )
    if checkov:
        known = (resource.get_metadata("checkov") or {}).get("skip", [])
        skip = [*known, *({"id": rule_id, "comment": reason} for rule_id in checkov)]
        resource.add_metadata("checkov", {"skip": skip})
    if cfn_lint:
        resource.add_metadata("cfn-lint", {"config": {"ignore_checks": cfn_lint}})
