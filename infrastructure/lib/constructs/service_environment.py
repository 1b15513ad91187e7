"""The environment variables of a service's containers. docs/reference/environment-variables.md lists them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lib.config.environments import Environment
from lib.config.service import Service


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Addresses for the services. Values can contain CloudFormation references."""

    database_url: str
    redis_url: str
    public_urls: Mapping[str, str]

    def values(self, environment: Environment) -> Mapping[str, object]:
        """The values of the placeholders in `Service.environment`."""
        services = [service for service in environment.services if service.port is not None]
        split = environment.domain is not None
        return {
            "database_url": self.database_url,
            "redis_url": self.redis_url,
            "public_url": self.public_urls,
            # Relative if all services share one host, so that pages work under any host name.
            "public_base": {
                each.name: (self.public_urls[each.name] if split else "") + each.path_prefix for each in services
            },
            "internal_url": {each.name: f"http://{each.name}.{environment.namespace}:{each.port}" for each in services},
            "origins": ",".join(dict.fromkeys(self.public_urls[each.name] for each in services if each.has_pages)),
            "cookie_domain": environment.domain.name if environment.domain else "",
            "mail_from": environment.mail_from,
        }


def common_variables(environment: Environment, *, image_digest: str) -> dict[str, str]:
    """Return the variables of every task."""
    return {
        "ENVIRONMENT": environment.name,
        "LOG_LEVEL": environment.tasks.log_level,
        "IMAGE_DIGEST": image_digest,
        "NODE_ENV": "production",
        # The services trust proxy headers from these addresses, which include the load balancer's.
        "VPC_CIDR": environment.network.cidr_block,
    }


def service_variables(
    service: Service, environment: Environment, *, addresses: Addresses, image_digest: str
) -> dict[str, str]:
    """Return all variables of a service except its secrets. Empty values are left out, except PATH_PREFIX."""
    values = addresses.values(environment)
    own = {name: template.format(**values) for name, template in service.environment.items()}
    return {
        **common_variables(environment, image_digest=image_digest),
        **({} if service.port is None else {"PORT": str(service.port), "PATH_PREFIX": service.path_prefix}),
        **{name: value for name, value in own.items() if value},
    }
