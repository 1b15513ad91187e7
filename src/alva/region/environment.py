"""The environment variables that MiniStack reads when it is imported."""

from __future__ import annotations

import os

from alva.region import offered_services
from alva.region.config import RegionConfig


def prepare(config: RegionConfig) -> None:
    """Set the environment variables that MiniStack reads when it is imported."""
    os.environ.update(
        BIND_HOST="127.0.0.1",
        GATEWAY_PORT=str(config.api_port),
        MINISTACK_HOST="localhost",
        MINISTACK_ACCOUNT_ID=config.account_id,
        MINISTACK_REGION=config.region,
        PERSIST_STATE="0",
        S3_PERSIST="0",
        IOT_MTLS_ENABLED="0",
        SFTP_ENABLED="0",
        MINISTACK_TEST_NO_AUTOSTART="1",
        LOG_LEVEL="WARNING",
        # This prevents a Docker client, even if a Docker daemon runs.
        DOCKER_HOST="unix:///nonexistent/docker.sock",
    )
    offered_services.restrict()
