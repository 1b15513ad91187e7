"""Causes of failed connections: the database, the cache, names and certificates."""

from __future__ import annotations

from alva.release.causes.known_cause import ASK_INSIDE, LOG, RELEASE, ROTATE, STATUS_OF, KnownCause

# The beginning of a PostgreSQL client's line: a severity (libpq, psycopg) or "error:" (node-postgres).
_POSTGRES = r"(?:(?:FATAL|ERROR):\s+|\berror: |psycopg\.errors\.\w+[):]+ |^cannot migrate: )"
_CONNECTIONS = (
    r"(?:sorry, too many clients already|remaining connection slots are reserved|too many connections for role)"
)
_PASSWORD = r"password authentication failed for user"  # noqa: S105  (words of PostgreSQL)
_CACHE_PASSWORD = r"WRONGPASS invalid username|NOAUTH Authentication required|AuthenticationError: invalid username"  # noqa: S105

DATA = (
    KnownCause(
        "connection-budget",
        RELEASE,
        _POSTGRES + _CONNECTIONS,
        "the database has no free connections",
        "fewer connections per task, fewer tasks, or a larger instance class: ./alva preflight counts them",
    ),
    KnownCause(
        "connection-budget",
        LOG,
        _POSTGRES + _CONNECTIONS,
        "a database refused its connection: no connections are free",
        "./alva preflight counts the connections that the services can open, ./alva open shows those in use",
    ),
    KnownCause(
        "database-password",
        RELEASE,
        _PASSWORD,
        "the database refuses the task's password",
        ROTATE,
    ),
    KnownCause(
        "database-password",
        LOG,
        _POSTGRES + _PASSWORD,
        "the database refuses the task's password",
        ASK_INSIDE,
    ),
    KnownCause(
        "cache-password",
        RELEASE,
        _CACHE_PASSWORD,
        "the cache refuses the task's token",
        ROTATE,
    ),
    KnownCause(
        "cache-password",
        LOG,
        _CACHE_PASSWORD,
        "the cache refuses the task's token",
        ASK_INSIDE,
    ),
    KnownCause(
        "schema",
        LOG,
        r"\bpsycopg\.errors\.Undefined(?:Table|Column)\b"
        r"|(?:ERROR:\s+|\berror: )(?:relation|column) [^\n]+ does not exist",
        "the database's schema is not what the code expects",
        "./alva diff shows the migrations that a release would run",
    ),
    KnownCause(
        "lock-timeout",
        LOG,
        _POSTGRES + r"canceling statement due to lock timeout",
        "it could not lock a table in time: another transaction holds the lock",
        "./alva logs {subject} --since 1h; run it again when there is less traffic",
    ),
    KnownCause(
        "statement-timeout",
        LOG,
        _POSTGRES + r"canceling statement due to statement timeout",
        "a statement took longer than its time limit",
        "./alva logs {subject} --since 1h; a migration can be split into smaller steps",
    ),
    KnownCause(
        "connection-timeout",
        LOG,
        r"connection timeout expired|port \d+ failed: \w+ timed out|\[Errno 110\]|\bConnectTimeout\b|connect ETIMEDOUT",
        "its connection times out: a security group or route blocks it, or nothing listens",
        "./alva preflight --reachability shows allowed connections, ./alva status what runs",
    ),
    KnownCause(
        "database-down",
        LOG,
        r"connection to server (?:at|on) [^\n]*(?:failed|refused)|could not connect to server"
        r"|ECONNREFUSED \S+:5432|OperationalError[^\n]*(?:refused|timed? ?out|closed)",
        "the database does not answer",
        STATUS_OF.format("database"),
    ),
    KnownCause(
        "database-down",
        RELEASE,
        r"^inside: database: [^\n]*(?:refused|timed? ?out|timeout expired|not known|closed)",
        "the database does not answer a task",
        STATUS_OF.format("database"),
    ),
    KnownCause(
        "cache-down",
        RELEASE,
        r"^inside: queue: [^\n]*(?:refused|timed? ?out|timeout|not known|closed)",
        "the cache does not answer a task",
        STATUS_OF.format("cache"),
    ),
    KnownCause(
        "cache-down",
        LOG,
        r"(?:redis|valkey)\.exceptions\.(?:ConnectionError|TimeoutError)|Error \d+ connecting to [^\n]*6379"
        r"|ECONNREFUSED \S+:6379",
        "the cache does not answer",
        STATUS_OF.format("cache"),
    ),
    KnownCause(
        "certificate",
        LOG,
        r"certificate verify failed|CERTIFICATE_VERIFY_FAILED|UNABLE_TO_VERIFY_LEAF_SIGNATURE"
        r"|unable to get local issuer certificate",
        "it does not trust the certificate of the server",
        "the image's CA bundle must contain the server's certificate authority",
    ),
    KnownCause(
        "unknown-name",
        LOG,
        r"Name or service not known|could not translate host name|getaddrinfo (?:failed|ENOTFOUND)",
        "a name that it connects to cannot be resolved",
        "./alva status shows whether the other service runs",
    ),
    KnownCause(
        "missing-module",
        LOG,
        r"(?P<what>(?:ModuleNotFoundError|ImportError): [^\n\"\\]+|Cannot find module '[^'\n]+')",
        "its code does not load: {what}",
        "a dependency is missing from its image, or a COPY from its Dockerfile",
    ),
)
