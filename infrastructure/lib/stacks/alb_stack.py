"""The load balancer and its listeners.

Target groups and rules are in the services stacks, to avoid a cycle between stacks.
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_certificatemanager as acm
from aws_cdk import aws_elasticloadbalancingv2 as elbv2
from aws_cdk import aws_route53 as route53
from constructs import Construct

from lib.config.environments import Environment
from lib.config.service import Service
from lib.config.settings import Domain
from lib.constructs.accepted_findings import accept
from lib.constructs.access_logs import ACCESS_LOG_PREFIX, AccessLogs
from lib.constructs.web_acl import WebAcl
from lib.stacks.environment_stack import EnvironmentStack
from lib.stacks.network_stack import NetworkStack

# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/describe-ssl-policies.html
TLS_POLICY = "ELBSecurityPolicy-TLS13-1-2-2021-06"


class AlbStack(EnvironmentStack):
    """Attributes: `listener_arn` (for the services' rules), `load_balancer_full_name`, and the services' URLs."""

    def __init__(self, scope: Construct, *, environment: Environment, network: NetworkStack) -> None:
        super().__init__(scope, "alb", environment=environment, description="Load balancer and listeners")
        settings = environment.load_balancer
        self._access_logs = AccessLogs(self, "AccessLogs", environment=environment) if settings.access_logs else None
        self.load_balancer = elbv2.CfnLoadBalancer(
            self,
            "LoadBalancer",
            # Lower case, because the DNS name keeps the case of this name, and browsers send origins in lower case.
            name=f"{environment.prefix}-alb",
            type="application",
            scheme="internet-facing",
            ip_address_type="ipv4",
            subnets=network.public_subnet_ids,
            security_groups=[network.alb_security_group_id],
            load_balancer_attributes=[
                *self._access_log_attributes(),
                _attribute("routing.http.drop_invalid_header_fields.enabled", "true"),
                _attribute("routing.http.desync_mitigation_mode", "defensive"),
                _attribute("idle_timeout.timeout_seconds", str(settings.idle_timeout_seconds)),
                _attribute("deletion_protection.enabled", str(settings.deletion_protection).lower()),
            ],
        )
        if self._access_logs is not None:
            # The load balancer writes a test object at its creation.
            self.load_balancer.add_resource_dependency(self._access_logs.bucket_policy)
        else:
            accept(
                self.load_balancer,
                "The services log each request (setting: load_balancer.access_logs)",
                "AwsSolutions-ELB2",
                "CKV_AWS_91",
            )
        if settings.web_acl:
            WebAcl(self, "WebAcl", environment=environment, load_balancer_arn=self.load_balancer.ref)
        self.load_balancer_full_name = self.load_balancer.attr_load_balancer_full_name

        certificate_arn = settings.certificate_arn
        if environment.domain is not None:
            self._hosts(environment.domain)
            certificate_arn = certificate_arn or self._certificate(environment.domain)
        http = self._listener("Http", 80, _not_found() if certificate_arn is None else _redirect_to_https())
        self.listener_arn = http.attr_listener_arn
        if certificate_arn is None:
            accept(
                http,
                "No domain, so no certificate (settings: domain, load_balancer.certificate_arn)",
                "CKV_AWS_2",
                "CKV_AWS_103",
            )
        else:
            https = self._listener("Https", 443, _not_found(), certificate_arn=certificate_arn)
            self.listener_arn = https.attr_listener_arn
        # When HTTPS is enabled, the rules move to the other listener. This one must stay exported until they have
        # moved.
        self.keep_exported(http.attr_listener_arn, self.load_balancer.attr_dns_name, self.load_balancer_full_name)

        first_page = next(service for service in environment.services if service.port is not None)
        cdk.CfnOutput(self, "Url", value=self.public_url(first_page))
        cdk.CfnOutput(self, "Address", value=self.load_balancer.attr_dns_name)

    def public_url(self, service: Service) -> str:
        """Return the service's URL for browsers without its path prefix: `https://api-staging.example.com`."""
        scheme = "https" if self.environment_settings.has_https else "http"
        return f"{scheme}://{self.environment_settings.host(service) or self.load_balancer.attr_dns_name}"

    def _access_log_attributes(self) -> list[elbv2.CfnLoadBalancer.LoadBalancerAttributeProperty]:
        if self._access_logs is None:
            return []
        return [
            _attribute("access_logs.s3.enabled", "true"),
            _attribute("access_logs.s3.bucket", self._access_logs.bucket_name),
            _attribute("access_logs.s3.prefix", ACCESS_LOG_PREFIX),
        ]

    def _listener(
        self,
        name: str,
        port: int,
        default_action: elbv2.CfnListener.ActionProperty,
        *,
        certificate_arn: str | None = None,
    ) -> elbv2.CfnListener:
        secure = certificate_arn is not None
        return elbv2.CfnListener(
            self,
            f"{name}Listener",
            load_balancer_arn=self.load_balancer.ref,
            port=port,
            protocol="HTTPS" if secure else "HTTP",
            certificates=[elbv2.CfnListener.CertificateProperty(certificate_arn=certificate_arn)] if secure else None,
            ssl_policy=TLS_POLICY if secure else None,
            default_actions=[default_action],
        )

    def _certificate(self, domain: Domain) -> str:
        hosts = self._host_names()
        certificate = acm.CfnCertificate(
            self,
            "Certificate",
            domain_name=hosts[0],
            subject_alternative_names=hosts[1:],
            validation_method="DNS",
            domain_validation_options=[
                acm.CfnCertificate.DomainValidationOptionProperty(
                    domain_name=host, hosted_zone_id=domain.hosted_zone_id
                )
                for host in hosts
            ],
        )
        return str(certificate.ref)

    def _hosts(self, domain: Domain) -> None:
        for service in self.environment_settings.services:
            if (host := self.environment_settings.host(service)) is None:
                continue
            route53.CfnRecordSet(
                self,
                f"{service.construct_id}Record",
                hosted_zone_id=domain.hosted_zone_id,
                name=f"{host}.",
                type="A",
                alias_target=route53.CfnRecordSet.AliasTargetProperty(
                    dns_name=self.load_balancer.attr_dns_name,
                    hosted_zone_id=self.load_balancer.attr_canonical_hosted_zone_id,
                ),
            )

    def _host_names(self) -> list[str]:
        hosts = [self.environment_settings.host(service) for service in self.environment_settings.services]
        return [host for host in hosts if host is not None]


def _attribute(key: str, value: str) -> elbv2.CfnLoadBalancer.LoadBalancerAttributeProperty:
    return elbv2.CfnLoadBalancer.LoadBalancerAttributeProperty(key=key, value=value)


def _not_found() -> elbv2.CfnListener.ActionProperty:
    return elbv2.CfnListener.ActionProperty(
        type="fixed-response",
        fixed_response_config=elbv2.CfnListener.FixedResponseConfigProperty(
            status_code="404", content_type="text/plain", message_body="Nothing is served here."
        ),
    )


def _redirect_to_https() -> elbv2.CfnListener.ActionProperty:
    return elbv2.CfnListener.ActionProperty(
        type="redirect",
        redirect_config=elbv2.CfnListener.RedirectConfigProperty(
            protocol="HTTPS",
            port="443",
            host="#{host}",
            path="/#{path}",
            query="#{query}",
            status_code="HTTP_301",
        ),
    )
