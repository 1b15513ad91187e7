"""The secrets of an environment: checks, generates and sets their values.

A value goes to Secrets Manager only: it is never printed, logged, or put into an error.
"""

from __future__ import annotations

import enum
import json
import secrets as randomness
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from alva.aws import Aws, error_code, explained
from alva.errors import PreflightRefused, UsageError
from alva.release.manifest import Manifest, Secret
from alva.release.secret_audit import Entry, SecretAudit

UNSET = "alva:unset"
"""The template's placeholder for a secret that is not set."""


class State(enum.Enum):
    """The state of a secret."""

    SET = "set"
    UNSET = "not set"
    MISSING = "missing"
    MALFORMED = "malformed"


@dataclass(frozen=True, kw_only=True)
class SecretStatus:
    """One secret, without its value."""

    secret: Secret
    state: State
    changed_at: datetime | None = None
    problem: str = ""


class Secrets:
    """Secrets Manager, for one environment."""

    def __init__(self, aws: Aws, manifest: Manifest) -> None:
        self._aws = aws
        self._manifest = manifest
        self._audit = SecretAudit(aws, manifest)

    def check(self) -> list[SecretStatus]:
        """Return the state of every secret: whether it is set and well-formed (a key pair must sign and verify)."""
        secrets = self._manifest.secrets
        with ThreadPoolExecutor(max_workers=8, thread_name_prefix="secrets") as pool:
            read = list(pool.map(lambda secret: self._read(secret.name), secrets))
        values = {secret.name: value for secret, (value, _) in zip(secrets, read, strict=True)}
        judged = {secret.name: _judge(secret, values[secret.name]) for secret in secrets}
        generated = self._manifest.generated_secret
        statuses = []
        for secret, (_, changed_at) in zip(secrets, read, strict=True):
            state, problem = judged[secret.name]
            private = next((s for s in secrets if s.kind == "rsa-private-key"), None)
            if (
                secret.kind == "rsa-public-key"
                and private is not None
                and state is State.SET
                and judged[private.name][0] is State.SET
                and (problem := _pair_problem(values[private.name] or "", values[secret.name] or ""))
            ):
                state = State.MALFORMED
            if (
                secret.kind == "url"
                and generated is not None
                and state is State.SET
                and judged[generated.name][0] is State.SET
                and (
                    problem := _password_problem(
                        values[generated.name] or "", values[secret.name] or "", generated.short_name
                    )
                )
            ):
                state = State.MALFORMED
            statuses.append(SecretStatus(secret=secret, state=state, changed_at=changed_at, problem=problem))
        return statuses

    def require(self) -> None:
        """Raise PreflightRefused unless every used secret is set and well-formed."""
        wrong = [status for status in self.check() if status.state is not State.SET and status.secret.used_by]
        if wrong:
            raise PreflightRefused(
                "cannot release: secrets are not set, or their values are invalid",
                evidence=[
                    f"{s.secret.name}: {s.problem or s.state.value} (used by {', '.join(s.secret.used_by)})"
                    for s in wrong
                ],
                next_step="./alva secrets init generates secrets; ./alva secrets set NAME reads standard input",
            )

    def initialise(self, given: Mapping[str, str] | None = None) -> list[str]:
        """Generate unset secrets, and set unset ones from `given`, by name; return the names that were set."""
        given = given or {}
        statuses = {s.secret.name: s for s in self.check()}
        unset = [s.secret for s in statuses.values() if s.state is State.UNSET]
        made: list[str] = []
        pair_kinds = ("rsa-private-key", "rsa-public-key")
        if any(secret.kind in pair_kinds for secret in unset):
            made += self._make_pair({secret.name for secret in unset if secret.kind in pair_kinds})
        for secret in unset:
            if secret.name in given:
                self._write(secret.name, given[secret.name])
                made.append(secret.name)
            elif secret.kind == "random":
                self._write(secret.name, randomness.token_urlsafe(48))
                made.append(secret.name)
        return made

    def assign(self, name: str, value: str) -> Secret:
        """Set one secret; raises UsageError when its value is invalid."""
        secret = self.find(name)
        if secret.kind in ("generated", "url"):
            how = "generates it" if secret.kind == "generated" else "builds it from the generated password"
            generated = self._manifest.generated_secret or secret
            raise UsageError(
                f"cannot set {secret.name}: the template {how}",
                next_step=f"./alva secrets rotate {generated.short_name}",
            )
        state, problem = _judge(secret, value)
        if state is not State.SET:
            raise UsageError(f"cannot set {secret.name}: the value is {problem or state.value}")
        self._write(secret.name, value)
        return secret

    def find(self, name: str) -> Secret:
        """Return the secret `name`, with or without the environment's prefix."""
        for secret in self._manifest.secrets:
            if name in (secret.name, secret.short_name):
                return secret
        raise UsageError(
            f"cannot find a secret {name!r}",
            evidence=["there are " + ", ".join(s.name for s in self._manifest.secrets)],
        )

    def _make_pair(self, unset: set[str]) -> list[str]:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        private_name = next(s.name for s in self._manifest.secrets if s.kind == "rsa-private-key")
        public_name = next(s.name for s in self._manifest.secrets if s.kind == "rsa-public-key")
        if private_name in unset:
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            self._write(
                private_name,
                key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                ).decode(),
            )
            made = [private_name]
        else:
            loaded = serialization.load_pem_private_key((self._read(private_name)[0] or "").encode(), password=None)
            assert isinstance(loaded, rsa.RSAPrivateKey)  # noqa: S101
            key, made = loaded, []
        # The public key is always derived from the private one, so that both belong together.
        self._write(
            public_name,
            key.public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            .decode(),
        )
        return [*made, public_name]

    def _read(self, name: str) -> tuple[str | None, datetime | None]:
        with explained(f"read secret {name}"):
            try:
                answer = self._aws.secretsmanager.get_secret_value(SecretId=name)
            except Exception as error:
                if error_code(error) in ("ResourceNotFoundException", "InvalidRequestException"):
                    return None, None
                raise
        return answer.get("SecretString"), answer.get("CreatedDate")

    def _write(self, name: str, value: str) -> None:
        with explained(f"set secret {name}"):
            try:
                self._aws.secretsmanager.put_secret_value(SecretId=name, SecretString=value)
            except Exception as error:
                if error_code(error) == "ResourceNotFoundException":
                    raise PreflightRefused(
                        f"cannot set secret {name}: it does not exist yet",
                        next_step="./alva deploy creates the secrets and stops; then set it",
                    ) from error
                raise
        self._audit.record(Entry.now(name))


def _judge(secret: Secret, value: str | None) -> tuple[State, str]:
    if value is None:
        return State.MISSING, ""
    if value.strip() in ("", UNSET):
        return State.UNSET, ""
    problem = {
        "rsa-private-key": _private_key_problem,
        "rsa-public-key": _public_key_problem,
        "generated": _generated_problem,
        "random": _random_problem,
        "url": _url_problem,
    }.get(secret.kind, _text_problem)(value)
    return (State.MALFORMED, problem) if problem else (State.SET, "")


def _private_key_problem(value: str) -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    try:
        key = serialization.load_pem_private_key(value.encode(), password=None)
    except (ValueError, TypeError):
        return "not an unencrypted PEM private key"
    return "" if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 2048 else "not an RSA key of 2048 bits or more"


def _public_key_problem(value: str) -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    try:
        key = serialization.load_pem_public_key(value.encode())
    except (ValueError, TypeError):
        return "not a PEM public key"
    return "" if isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048 else "not an RSA key of 2048 bits or more"


def _pair_problem(private: str, public: str) -> str:
    """Check the pair by signing and verifying, as the services do."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    # The key was validated before, which is slow.
    signer = serialization.load_pem_private_key(private.encode(), password=None, unsafe_skip_rsa_key_validation=True)
    verifier = serialization.load_pem_public_key(public.encode())
    assert isinstance(signer, rsa.RSAPrivateKey)  # noqa: S101
    assert isinstance(verifier, rsa.RSAPublicKey)  # noqa: S101
    message = b"alva"
    try:
        signature = signer.sign(message, padding.PKCS1v15(), hashes.SHA256())
        verifier.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return "not the public half of the private key"
    return ""


def _generated_problem(value: str) -> str:
    try:
        return "" if json.loads(value).get("password") else "a JSON object without a password"
    except (ValueError, AttributeError):
        return "not a JSON object"


def _url_problem(value: str) -> str:
    try:
        passwords = _passwords_of(value)
    except (ValueError, AttributeError):
        return "not a JSON object of URLs"
    return "" if passwords and all(passwords) else "a URL without a password"


def _password_problem(generated: str, value: str, short_name: str) -> str:
    """Check that the URL contains the generated password: some tasks read the URL, others the password.

    `short_name` is the generated secret's.
    """
    is_one = _passwords_of(value) == {json.loads(generated)["password"]}
    return "" if is_one else f"a URL with another password than the generated one: ./alva secrets rotate {short_name}"


def _passwords_of(value: str) -> set[str | None]:
    """Return the passwords of the URLs in a secret's JSON object."""
    return {urlsplit(url).password for url in json.loads(value).values()}


def _random_problem(value: str) -> str:
    return "" if len(value) >= 32 else "shorter than 32 characters"


def _text_problem(value: str) -> str:
    return "not one line without blanks at its ends" if value != value.strip() or "\n" in value else ""
