"""What all stacks of an environment have in common: their name, their region, and no account."""

from __future__ import annotations

import aws_cdk as cdk
from constructs import Construct

from lib.config.environments import Environment


class EnvironmentStack(cdk.Stack):
    """The stack `<prefix>-<part>`: tied to the environment's region, deployable into any account.

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
            # The templates have no assets, so an account without `cdk bootstrap` takes them too.
            synthesizer=cdk.DefaultStackSynthesizer(generate_bootstrap_version_rule=False),
            # CloudFormation takes 51,200 bytes inline; indentation is a third of a template.
            suppress_template_indentation=True,
        )
        self.environment_settings = environment

    def keep_exported(self, *values: str) -> None:
        """Export these attributes of resources whether or not another stack uses them at the moment.

        CDK exports what is used. When a stack later ceases to use a value, the export is taken away before that stack
        is updated, and CloudFormation refuses: "Export ... cannot be deleted as it is in use by ...".
        """
        for value in values:
            self.export_value(value)
