"""The base class of all stacks: name and region. No stack names an account."""

from __future__ import annotations

import aws_cdk as cdk
from constructs import Construct

from lib.config.environments import Environment


class EnvironmentStack(cdk.Stack):
    """The stack `<prefix>-<part>`. It is for the environment's region and can be deployed to any account.

    Resources are level-1 constructs: docs/decisions/explicit-resources.md says why.
    """

    def __init__(self, scope: Construct, part: str, *, environment: Environment, description: str) -> None:
        super().__init__(
            scope,
            f"{environment.prefix}-{part}",
            stack_name=f"{environment.prefix}-{part}",
            description=description,
            env=cdk.Environment(region=environment.region),
            tags={"Project": "alva", "Environment": environment.name},
            # The templates have no assets, so they need no `cdk bootstrap`.
            synthesizer=cdk.DefaultStackSynthesizer(generate_bootstrap_version_rule=False),
            # CloudFormation accepts 51,200 bytes inline, and a third of a template is indentation.
            suppress_template_indentation=True,
        )
        self.environment_settings = environment

    def keep_exported(self, *values: str) -> None:
        """Export these attributes, also if no other stack uses them.

        CDK exports only values in use. When a stack stops using a value, its export would be removed before that stack
        is updated, and CloudFormation would refuse: "Export ... cannot be deleted as it is in use by ...".
        """
        for value in values:
            self.export_value(value)
