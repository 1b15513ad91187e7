"""libpq and redis-py over TLS, with full verification, in a task, where the endpoints' names resolve."""

from __future__ import annotations

import subprocess

import pytest

from tests.rehearsal.environment import Rehearsal

pytestmark = pytest.mark.region


def inside(rehearsal: Rehearsal, code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code as a one-off task of the api."""
    return rehearsal.alva("run", "api", "--", "python", "-c", code)


def test_libpq_verifies_the_database_and_is_encrypted(rehearsal: Rehearsal) -> None:
    ran = inside(
        rehearsal,
        "import os, psycopg; c = psycopg.connect(os.environ['DATABASE_URL']); "
        "print(c.execute('SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()').fetchone())",
    )
    assert (ran.returncode, ran.stdout) == (0, "(True, 'TLSv1.3')\n"), ran.stderr


def test_libpq_without_tls_is_refused(rehearsal: Rehearsal) -> None:
    ran = inside(
        rehearsal,
        "import os, psycopg; "
        "psycopg.connect(os.environ['DATABASE_URL'].replace('sslmode=verify-full', 'sslmode=disable'))",
    )
    assert ran.returncode == 1
    assert "no pg_hba.conf entry" in ran.stdout + ran.stderr


def test_redis_client_verifies_the_cache(rehearsal: Rehearsal) -> None:
    ran = inside(
        rehearsal,
        "import os, redis; c = redis.Redis.from_url(os.environ['REDIS_URL'], password=os.environ['REDIS_PASSWORD'], "
        "ssl_cert_reqs='required', ssl_check_hostname=True); print(c.ping(), c.set('by-redis-py', 1, ex=5))",
    )
    assert (ran.returncode, ran.stdout) == (0, "True True\n"), ran.stderr
