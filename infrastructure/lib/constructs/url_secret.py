"""A secret with URLs that contain the password of the generated secret.

The template has a dynamic reference in place of the password, so the password is in no template and no event.
CloudFormation resolves it when the property changes, so a rotation writes the new password's version id there.
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/dynamic-references-secretsmanager.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from lib.config.environments import Environment
from lib.config.secrets import Secret
from lib.constructs.accepted_findings import accept


def url_secret(
    scope: Construct, settings: Secret, *, environment: Environment, queries: Mapping[str, str], url: str
) -> secretsmanager.CfnSecret:
    """Return the secret `settings`. Each key of `queries` has `url`, with that query if it is not empty.

    It is deleted with its stack, because the template can create it again.
    """
    urls = {key: f"{url}?{query}" if query else url for key, query in queries.items()}
    secret = secretsmanager.CfnSecret(
        scope,
        "Urls",
        name=f"{environment.prefix}-{settings.name}",
        description=settings.description,
        # The URLs need no escapes in JSON: the password has letters and digits only.
        secret_string=json.dumps(urls, separators=(",", ":")),
    )
    accept(
        secret,
        "Each secret has one reader role in one account: a customer managed key ($1 a month) protects nothing more",
        "CKV_AWS_149",
    )
    accept(secret, "It contains the generated password and is rotated with it", "AwsSolutions-SMG4")
    return secret


def password_reference(secret_arn: str) -> str:
    """Return the dynamic reference to the generated secret's password."""
    return f"{{{{resolve:secretsmanager:{secret_arn}:SecretString:password}}}}"
