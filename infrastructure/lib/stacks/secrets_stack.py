"""The environment's secrets: one is generated, and six have the value `alva:unset` until the release tool sets them."""

from __future__ import annotations

import json

import aws_cdk as cdk
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from lib.config.environments import Environment
from lib.config.secrets import DATABASE_SECRET, SECRETS
from lib.constructs.accepted_findings import accept
from lib.stacks.environment_stack import EnvironmentStack

# A fixed placeholder can be detected. With a generated one, services would start with an invalid JWT key.
UNSET = "alva:unset"
DATABASE_USER = "alva_admin"

# Letters and digits only: valid for RDS (no / @ " or space) and for an ElastiCache AUTH token (16 to 128 characters),
# and without escapes in a URL, a shell and a connection string. 40 of 62 symbols are 238 bits.
PASSWORD_LENGTH = 40


class SecretsStack(EnvironmentStack):
    """Attribute: `secrets`, by name without the environment's prefix."""

    def __init__(self, scope: Construct, *, environment: Environment) -> None:
        super().__init__(scope, "secrets", environment=environment, description="Secrets of the services")
        self.secrets: dict[str, secretsmanager.CfnSecret] = {}
        for each in SECRETS:
            construct_id = "".join(part.capitalize() for part in each.name.split("-"))
            secret = secretsmanager.CfnSecret(
                self,
                construct_id,
                name=f"{environment.prefix}-{each.name}",
                description=each.description,
                secret_string=None if each.kind == "generated" else UNSET,
                generate_secret_string=_generated_credentials() if each.kind == "generated" else None,
            )
            # A value that an operator set is not in the template, so it must not be deleted with the stack.
            secret.cfn_options.deletion_policy = cdk.CfnDeletionPolicy.RETAIN
            secret.cfn_options.update_replace_policy = cdk.CfnDeletionPolicy.RETAIN
            accept(
                secret,
                "Each secret has one reader role in one account: a customer managed key ($1 a month) protects nothing "
                "more",
                "CKV_AWS_149",
            )
            accept(
                secret,
                "An operator rotates it with a runbook, because tasks read a new value only when they start",
                "AwsSolutions-SMG4",
            )
            self.secrets[each.name] = secret

        self.keep_exported(*self.arns.values())

    @property
    def arns(self) -> dict[str, str]:
        """Return the secrets' ARNs, which Ref returns."""
        return {name: secret.ref for name, secret in self.secrets.items()}

    @property
    def database_secret_arn(self) -> str:
        return str(self.secrets[DATABASE_SECRET].ref)


def _generated_credentials() -> secretsmanager.CfnSecret.GenerateSecretStringProperty:
    return secretsmanager.CfnSecret.GenerateSecretStringProperty(
        secret_string_template=json.dumps({"username": DATABASE_USER}, separators=(",", ":")),
        generate_string_key="password",
        password_length=PASSWORD_LENGTH,
        exclude_punctuation=True,
    )
