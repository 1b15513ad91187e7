"""The pipeline's roles. Only the workflows of one branch of one repository can assume them.

A release changes stacks with the deploy role of `cdk bootstrap`, which passes the execution role to CloudFormation. The
pipeline's own roles have no permissions on the resources, and cannot pass a role to CloudFormation. The policies of the
execution role limit what a release can change: docs/decisions/roles-of-the-bootstrap.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from lib.config.environments import Environment
from lib.config.services import MIGRATION
from lib.config.settings import Pipeline
from lib.constructs.accepted_findings import accept
from lib.stacks.environment_stack import EnvironmentStack

GITHUB = "token.actions.githubusercontent.com"
# The default qualifier of `cdk bootstrap`'s roles and bucket.
BOOTSTRAP = "cdk-hnb659fds"
USER_NAME = "alva-cicd-user"

# The read-only calls of a release that do not support resources, or that list all of them.
# https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
LISTING_ACTIONS = [
    "budgets:ViewBudget",
    "cloudformation:DescribeEvents",  # called with the name of a change set only
    "cloudformation:DescribeStackDriftDetectionStatus",
    "cloudformation:ValidateTemplate",
    "cloudwatch:DescribeAlarms",
    "ec2:DescribeAddresses",
    "ec2:DescribeInternetGateways",
    "ec2:DescribeNatGateways",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
    "ecr:GetAuthorizationToken",
    "ecs:DescribeTaskDefinition",
    "ecs:ListTasks",
    "elasticache:DescribeReservedCacheNodesOfferings",
    "elasticloadbalancing:DescribeAccountLimits",
    "elasticloadbalancing:DescribeLoadBalancers",
    "elasticloadbalancing:DescribeRules",
    "elasticloadbalancing:DescribeTargetGroups",
    "elasticloadbalancing:DescribeTargetHealth",
    "freetier:GetAccountPlanState",
    "iam:ListRoles",
    "rds:DescribeOrderableDBInstanceOptions",
    "logs:DescribeLogGroups",
    "servicequotas:GetAWSDefaultServiceQuota",
    "servicequotas:GetServiceQuota",
    "sts:GetCallerIdentity",
]


class CicdStack(EnvironmentStack):
    """Outputs: `BuildRoleArn` and `DeployRoleArn`, for the workflow's jobs."""

    def __init__(self, scope: Construct, *, environment: Environment) -> None:
        super().__init__(scope, "cicd", environment=environment, description="What the pipeline may do")
        settings = environment.pipeline
        provider_arn = settings.oidc_provider_arn or str(
            iam.CfnOIDCProvider(self, "GitHub", url=f"https://{GITHUB}", client_id_list=["sts.amazonaws.com"]).attr_arn
        )
        release = self._policy("Release", "What a release does, and no more", self._release_statements())
        build = self._policy("Build", "Pushes images, and no more", self._build_statements())
        deploy_role = self._role("Deploy", settings, provider_arn, release, hours=2)
        build_role = self._role("Build", settings, provider_arn, build, hours=1)
        if settings.user:
            user = iam.CfnUser(self, "User", user_name=USER_NAME, managed_policy_arns=[release.ref, build.ref])
            accept(user, "The policies belong to one user; a group would have one member", "CKV_AWS_40")
        cdk.CfnOutput(self, "DeployRoleArn", value=deploy_role.attr_arn)
        cdk.CfnOutput(self, "BuildRoleArn", value=build_role.attr_arn)

    def _policy(self, name: str, description: str, statements: list[dict[str, Any]]) -> iam.CfnManagedPolicy:
        policy = iam.CfnManagedPolicy(
            self,
            f"{name}Policy",
            managed_policy_name=f"{self.environment_settings.prefix}-{name.lower()}",
            description=description,
            policy_document={"Version": "2012-10-17", "Statement": statements},
        )
        accept(
            policy,
            "Each wildcard ends a name that begins with the environment's prefix, or belongs to operations that only "
            "list",
            *_wildcard_findings(statements),
            "CKV_AWS_111",
        )
        return policy

    def _role(
        self, name: str, settings: Pipeline, provider_arn: str, policy: iam.CfnManagedPolicy, *, hours: int
    ) -> iam.CfnRole:
        """Create a role that the workflows of one branch can assume, with each form of the subject in their tokens."""
        trust = {
            "Effect": "Allow",
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Principal": {"Federated": provider_arn},
            "Condition": {
                "StringEquals": {f"{GITHUB}:aud": "sts.amazonaws.com", f"{GITHUB}:sub": list(settings.subjects)}
            },
        }
        return iam.CfnRole(
            self,
            f"{name}Role",
            role_name=f"{self.environment_settings.prefix}-{name.lower()}",
            description=f"GitHub's {settings.repository or 'repository (not set)'}, branch {settings.branch}",
            max_session_duration=hours * 3600,
            managed_policy_arns=[policy.ref],
            assume_role_policy_document={"Version": "2012-10-17", "Statement": [trust]},
        )

    def _build_statements(self) -> list[dict[str, Any]]:
        # All repositories of services, also of services that are added later. The account has no others.
        return [
            _allow("SignIn", ["ecr:GetAuthorizationToken"], "*"),
            _allow(
                "Push",
                [
                    "ecr:BatchCheckLayerAvailability",
                    "ecr:BatchGetImage",
                    "ecr:CompleteLayerUpload",
                    "ecr:DescribeImages",
                    "ecr:DescribeRepositories",
                    "ecr:GetDownloadUrlForLayer",
                    "ecr:InitiateLayerUpload",
                    "ecr:PutImage",
                    "ecr:UploadLayerPart",
                ],
                self._arn("ecr", "repository/alva-*"),
            ),
        ]

    def _release_statements(self) -> list[dict[str, Any]]:
        environment = self.environment_settings
        prefix = environment.prefix
        cluster = f"{prefix}-cluster"
        tasks_roles = self._arn("iam", f"role/{prefix}-*", region="")
        return [
            _allow("List", LISTING_ACTIONS, "*"),
            _allow(
                "ChangeStacksAsTheCdkDoes",
                ["sts:AssumeRole"],
                [
                    # Full names: a prefix would also match other roles.
                    self._arn("iam", f"role/{BOOTSTRAP}-{kind}-role-{cdk.Aws.ACCOUNT_ID}-{cdk.Aws.REGION}", region="")
                    for kind in ("deploy", "file-publishing")
                ],
            ),
            _allow(
                "LookAtStacks",
                [
                    # The only call that changes a stack with the pipeline's role: the bootstrap's deploy role does not
                    # allow it.
                    "cloudformation:CancelUpdateStack",
                    "cloudformation:DescribeChangeSet",
                    "cloudformation:DescribeStackEvents",
                    "cloudformation:DescribeStackResourceDrifts",
                    "cloudformation:DescribeStacks",
                    "cloudformation:DetectStackDrift",
                    "cloudformation:DetectStackResourceDrift",
                    "cloudformation:GetTemplate",
                    "cloudformation:ListStackResources",
                ],
                self._arn("cloudformation", f"stack/{prefix}-*/*"),
            ),
            _allow(
                "BootstrapVersion", ["ssm:GetParameter"], self._arn("ssm", "parameter/cdk-bootstrap/hnb659fds/version")
            ),
            _allow(
                "Images",
                # PutImage adds a tag to a released image.
                [
                    "ecr:BatchGetImage",
                    "ecr:DescribeImages",
                    "ecr:DescribeRepositories",
                    "ecr:GetDownloadUrlForLayer",
                    "ecr:PutImage",
                ],
                self._arn("ecr", "repository/alva-*"),
            ),
            _allow(
                "Watch",
                [
                    "ecs:DescribeServiceDeployments",
                    "ecs:DescribeServices",
                    "ecs:DescribeTasks",
                    "ecs:ListServiceDeployments",
                ],
                [self._arn("ecs", f"{kind}/{cluster}/*") for kind in ("service", "service-deployment", "task")],
            ),
            _allow("PutServicesBack", ["ecs:UpdateService"], self._arn("ecs", f"service/{cluster}/*")),
            _allow(
                "PutLogGroupsBack",
                ["logs:CreateLogGroup", "logs:PutRetentionPolicy", "logs:TagResource"],
                self._arn("logs", f"log-group:/alva/{environment.name}/*"),
            ),
            _allow(
                "MigrateAndAskFromInside",
                ["ecs:RunTask", "ecs:StopTask"],
                [
                    self._arn("ecs", f"task-definition/{MIGRATION.family}:*"),
                    # The one-off tasks of the deep check, which have the service's environment.
                    *(
                        self._arn("ecs", f"task-definition/{each.service_name}:*")
                        for each in environment.services
                        if each.deep_check_command
                    ),
                    self._arn("ecs", f"task/{cluster}/*"),
                ],
                ArnEquals={"ecs:cluster": self._arn("ecs", f"cluster/{cluster}")},
            ),
            _allow(
                "RunTasksAsTheirRoles",
                ["iam:PassRole"],
                tasks_roles,
                StringEquals={"iam:PassedToService": "ecs-tasks.amazonaws.com"},
            ),
            _allow("CheckRoles", ["iam:SimulatePrincipalPolicy"], tasks_roles),
            _allow(
                "CheckSecrets",
                ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"],
                self._arn("secretsmanager", f"secret:{prefix}-*"),
            ),
            _allow(
                "ReadLogs",
                ["logs:FilterLogEvents", "logs:GetLogEvents"],
                self._arn("logs", f"log-group:/alva/{environment.name}/*"),
            ),
            _allow(
                "LedgerAndLock",
                ["ssm:DeleteParameter", "ssm:GetParameter", "ssm:GetParameterHistory", "ssm:PutParameter"],
                self._arn("ssm", f"parameter/{prefix}/*"),
            ),
        ]

    def _arn(self, service: str, resource: str, *, region: str = cdk.Aws.REGION) -> str:
        return f"arn:{cdk.Aws.PARTITION}:{service}:{region}:{cdk.Aws.ACCOUNT_ID}:{resource}"


def _wildcard_findings(statements: Sequence[dict[str, Any]]) -> list[str]:
    """Return cdk-nag's findings for the wildcards in the statements."""
    resources: list[str] = []
    for statement in statements:
        resource = statement["Resource"]
        resources += [resource] if isinstance(resource, str) else resource
    findings = []
    for resource in dict.fromkeys(each for each in resources if "*" in each):
        for token, name in (
            (cdk.Aws.PARTITION, "<AWS::Partition>"),
            (cdk.Aws.REGION, "<AWS::Region>"),
            (cdk.Aws.ACCOUNT_ID, "<AWS::AccountId>"),
        ):
            resource = resource.replace(token, name)
        findings.append(f"AwsSolutions-IAM5[Resource::{resource}]")
    return findings


def _allow(
    sid: str, actions: Sequence[str], resource: str | Sequence[str], **condition: dict[str, str]
) -> dict[str, Any]:
    statement: dict[str, Any] = {
        "Sid": sid,
        "Effect": "Allow",
        "Action": list(actions),
        "Resource": resource if isinstance(resource, str) else list(resource),
    }
    if condition:
        statement["Condition"] = condition
    return statement
