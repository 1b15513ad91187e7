"""Prints the subject of the OIDC token in GitHub's response on standard input, which AWS's trust policy compares.

The token itself is a credential and is not printed.
"""

from __future__ import annotations

import base64
import json
import sys


def subject(answer: str) -> str:
    """Return the claim `sub` of the token in `{"value": TOKEN}`. Raises ValueError or KeyError for other input."""
    payload = json.loads(answer)["value"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return str(claims["sub"])


if __name__ == "__main__":
    print(f"The token's subject is {subject(sys.stdin.read())}")
    print("The role trusts the subjects that pipeline.repository, owner_id, repository_id and branch give:")
    print("correct the settings in infrastructure/lib/config/environments.py, then run ./alva bootstrap --target aws.")
