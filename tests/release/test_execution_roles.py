"""The permissions that an execution role needs, from the task definition that it starts."""

from __future__ import annotations

from typing import Any

from botocore.stub import Stubber

from alva.aws import Aws, Target
from alva.release.execution_roles import Need, _decisions, needs

BASE = "arn:aws:{}:us-east-1:123456789012:{}"
REPOSITORY = BASE.format("ecr", "repository/alva-api")
ROLE = "arn:aws:iam::123456789012:role/alva-staging-services-ApiExecution"


def definition(*containers: dict[str, Any]) -> dict[str, Any]:
    return {
        "taskDefinitionArn": BASE.format("ecs", "task-definition/alva-api:3"),
        "containerDefinitions": [
            {"name": f"c{index}", "image": "public.ecr.aws/x/y:1", **each} for index, each in enumerate(containers)
        ],
    }


def test_starting_a_task_needs_secrets_images_and_logs() -> None:
    secret = BASE.format("secretsmanager", "secret:alva-staging-database-AbCdEf")
    found = needs(
        definition(
            {
                "image": f"123456789012.dkr.ecr.us-east-1.amazonaws.com/alva-api@sha256:{'0' * 64}",
                "secrets": [
                    {"name": "PGPASSWORD", "valueFrom": f"{secret}:password::"},
                    {"name": "WHOLE", "valueFrom": secret},
                    {"name": "SETTING", "valueFrom": BASE.format("ssm", "parameter/alva/setting")},
                ],
                "logConfiguration": {
                    "logDriver": "awslogs",
                    "options": {"awslogs-group": "/alva/staging/api", "awslogs-stream-prefix": "ecs"},
                },
            }
        )
    )
    assert found == [
        Need(actions=("secretsmanager:GetSecretValue",), resources=(secret,)),
        Need(actions=("ssm:GetParameters",), resources=(BASE.format("ssm", "parameter/alva/setting"),)),
        Need(actions=("ecr:GetAuthorizationToken",), resources=("*",)),
        Need(
            actions=("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"),
            resources=(REPOSITORY,),
        ),
        Need(
            actions=("logs:CreateLogStream", "logs:PutLogEvents"),
            resources=(BASE.format("logs", "log-group:/alva/staging/api:log-stream:ecs/c0/any"),),
        ),
    ]


def test_task_that_needs_nothing_of_a_role_has_no_needs() -> None:
    assert needs(definition({})) == []


def test_answer_for_several_resources_is_read_resource_by_resource() -> None:
    aws = Aws(Target.local("http://127.0.0.1:9"))
    others = BASE.format("ecr", "repository/other")
    with Stubber(aws.client("iam")) as iam:
        iam.add_response(
            "simulate_principal_policy",
            {
                "EvaluationResults": [
                    {
                        "EvalActionName": "ecr:BatchGetImage",
                        "EvalResourceName": "*",
                        "EvalDecision": "implicitDeny",
                        "ResourceSpecificResults": [
                            {"EvalResourceName": REPOSITORY, "EvalResourceDecision": "allowed"},
                            {"EvalResourceName": others, "EvalResourceDecision": "implicitDeny"},
                        ],
                    }
                ],
                "IsTruncated": False,
            },
            {"PolicySourceArn": ROLE, "ActionNames": ["ecr:BatchGetImage"], "ResourceArns": [REPOSITORY, others]},
        )
        asked = Need(actions=("ecr:BatchGetImage",), resources=(REPOSITORY, others))
        assert list(_decisions(aws, ROLE, asked)) == [
            ("ecr:BatchGetImage", REPOSITORY, "allowed"),
            ("ecr:BatchGetImage", others, "implicitDeny"),
        ]
