"""A web ACL for the load balancer: AWS's managed rules, and a rate limit per address."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_wafv2 as wafv2
from constructs import Construct

from lib.config.environments import Environment
from lib.constructs.log_group import log_group

# https://docs.aws.amazon.com/waf/latest/developerguide/aws-managed-rule-groups-list.html
MANAGED_RULES = (
    "AWSManagedRulesAmazonIpReputationList",
    "AWSManagedRulesCommonRuleSet",
    "AWSManagedRulesKnownBadInputsRuleSet",
    "AWSManagedRulesSQLiRuleSet",
)
REQUESTS_PER_ADDRESS_IN_FIVE_MINUTES = 2000

# These rules of the managed groups only count. SizeRestrictions_BODY blocks every body above 8 KB; the services accept
# 256 KiB and return 413 above it. The rules for scripts, SQL and file inclusion in bodies have false positives in the
# texts that people write about their business; the services escape output and bind SQL parameters.
# https://docs.aws.amazon.com/waf/latest/developerguide/aws-managed-rule-groups-baseline.html
COUNTED: dict[str, tuple[str, ...]] = {
    "AWSManagedRulesCommonRuleSet": ("SizeRestrictions_BODY", "CrossSiteScripting_BODY", "GenericRFI_BODY"),
    "AWSManagedRulesSQLiRuleSet": ("SQLi_BODY",),
}


class WebAcl(Construct):
    """The web ACL, attached to the load balancer. It logs blocked requests."""

    def __init__(
        self, scope: Construct, construct_id: str, *, environment: Environment, load_balancer_arn: str
    ) -> None:
        super().__init__(scope, construct_id)
        rules = [
            wafv2.CfnWebACL.RuleProperty(
                name=name,
                priority=priority,
                override_action=wafv2.CfnWebACL.OverrideActionProperty(none={}),
                statement=wafv2.CfnWebACL.StatementProperty(
                    managed_rule_group_statement=wafv2.CfnWebACL.ManagedRuleGroupStatementProperty(
                        vendor_name="AWS",
                        name=name,
                        rule_action_overrides=[
                            wafv2.CfnWebACL.RuleActionOverrideProperty(
                                name=rule, action_to_use=wafv2.CfnWebACL.RuleActionProperty(count={})
                            )
                            for rule in COUNTED[name]
                        ]
                        if name in COUNTED
                        else None,
                    )
                ),
                visibility_config=_visibility(name),
            )
            for priority, name in enumerate(MANAGED_RULES)
        ]
        rate = wafv2.CfnWebACL.RuleProperty(
            name="rate",
            priority=len(rules),
            action=wafv2.CfnWebACL.RuleActionProperty(block={}),
            statement=wafv2.CfnWebACL.StatementProperty(
                rate_based_statement=wafv2.CfnWebACL.RateBasedStatementProperty(
                    limit=REQUESTS_PER_ADDRESS_IN_FIVE_MINUTES, aggregate_key_type="IP"
                )
            ),
            visibility_config=_visibility("rate"),
        )
        acl = wafv2.CfnWebACL(
            self,
            "Acl",
            name=environment.prefix,
            scope="REGIONAL",
            default_action=wafv2.CfnWebACL.DefaultActionProperty(allow={}),
            rules=[*rules, rate],
            visibility_config=_visibility(environment.prefix),
        )
        wafv2.CfnWebACLAssociation(self, "Association", resource_arn=load_balancer_arn, web_acl_arn=acl.attr_arn)
        # WAF requires this prefix.
        group = log_group(self, "LogGroup", f"aws-waf-logs-{environment.prefix}", environment=environment)
        wafv2.CfnLoggingConfiguration(
            self,
            "Logging",
            resource_arn=acl.attr_arn,
            log_destination_configs=[
                f"arn:{cdk.Aws.PARTITION}:logs:{cdk.Aws.REGION}:{cdk.Aws.ACCOUNT_ID}:log-group:{group.ref}"
            ],
            redacted_fields=[
                wafv2.CfnLoggingConfiguration.FieldToMatchProperty(single_header={"Name": header})
                for header in ("authorization", "cookie")
            ],
        )


def _visibility(metric_name: str) -> wafv2.CfnWebACL.VisibilityConfigProperty:
    return wafv2.CfnWebACL.VisibilityConfigProperty(
        cloud_watch_metrics_enabled=True, metric_name=metric_name, sampled_requests_enabled=True
    )
