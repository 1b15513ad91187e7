"""`python -m kit.healthcheck`: the container's health check, 0 where `/health` answers 200.

Imports little: it runs every few seconds.
"""

from __future__ import annotations

import http.client
import os
import sys

_TIMEOUT_SECONDS = 3.0


def main() -> int:
    """Ask this container's own `/health`; say on standard error why it is not healthy."""
    host = os.environ.get("HOST", "127.0.0.1")
    connection = http.client.HTTPConnection(
        "127.0.0.1" if host in {"", "0.0.0.0"} else host,  # noqa: S104 - compared, not bound
        int(os.environ["PORT"]),
        timeout=_TIMEOUT_SECONDS,
    )
    try:
        connection.request("GET", "/health")
        status = connection.getresponse().status
    except OSError as error:
        print(f"cannot reach /health: {error}", file=sys.stderr)
        return 1
    finally:
        connection.close()
    if status != 200:
        print(f"/health answered {status}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
