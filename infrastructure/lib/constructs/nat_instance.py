"""A NAT instance instead of a gateway: a tenth of the price, but a single point of failure."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from lib.constructs.accepted_findings import accept

# https://docs.aws.amazon.com/autoscaling/ec2/userguide/using-systems-manager-parameters.html
IMAGE_PARAMETER = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64"

INSTANCE_ID = "NatInstance"
READY_WITHIN = "PT15M"

# https://docs.aws.amazon.com/vpc/latest/userguide/work-with-nat-instances.html
#
# Forwarding comes first, because it needs no download. Then swap: without it, `dnf` runs out of memory on an instance
# with 512 MB (https://github.com/amazonlinux/amazon-linux-2023/issues/404). Downloads are repeated, because the
# instance's network may not be ready yet. The script signals the result to CloudFormation. None of this has run on AWS.
USER_DATA = """#!/bin/bash
set -uo pipefail

try() {
  for attempt in $(seq 20); do
    "$@" && return 0
    sleep "${PAUSE:-15}"
  done
  return 1
}

add_swap() {
  [ -e /swapfile ] && return 0
  dd if=/dev/zero of=/swapfile bs=1M count=1024 && chmod 600 /swapfile && mkswap /swapfile && swapon /swapfile &&
    echo '/swapfile none swap defaults 0 0' >> /etc/fstab
}

become_nat() {
  echo 'net.ipv4.ip_forward = 1' > /etc/sysctl.d/90-nat.conf && sysctl --system || return 1
  add_swap || return 1
  try dnf install -y aws-cfn-bootstrap nftables || return 1
  cat > /etc/sysconfig/nftables.conf <<'RULES'
table ip nat {
  chain postrouting {
    type nat hook postrouting priority srcnat;
    oifname != "lo" masquerade
  }
}
RULES
  systemctl enable --now nftables && nft list table ip nat
}

become_nat
result=$?
try /opt/aws/bin/cfn-signal --exit-code "$result" --stack @STACK@ --resource @RESOURCE@ --region @REGION@
"""


class NatInstance(Construct):
    """Attribute: `instance_id`, the target of the private subnets' default routes.

    The stack waits for the signal of the instance that it forwards, and fails without it.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        instance_type: str,
        prefix: str,
        vpc_id: str,
        public_subnet_id: str,
        client_security_group_id: str,
        after: cdk.CfnResource,
    ) -> None:
        super().__init__(scope, construct_id)
        group = ec2.CfnSecurityGroup(
            self,
            "SecurityGroup",
            group_name=f"{prefix}-nat",
            group_description="The NAT instance: from tasks only, to anywhere over TLS",
            vpc_id=vpc_id,
            security_group_ingress=[
                ec2.CfnSecurityGroup.IngressProperty(
                    ip_protocol="tcp",
                    from_port=443,
                    to_port=443,
                    source_security_group_id=client_security_group_id,
                    description="From tasks",
                )
            ],
            security_group_egress=[
                ec2.CfnSecurityGroup.EgressProperty(
                    ip_protocol="tcp", from_port=443, to_port=443, cidr_ip="0.0.0.0/0", description="TLS to anywhere"
                )
            ],
        )
        # A launch template resolves the image when the instance starts. A stack parameter would resolve it at each
        # deployment, and an unrelated release would replace the instance.
        template = ec2.CfnLaunchTemplate(
            self,
            "LaunchTemplate",
            launch_template_name=f"{prefix}-nat",
            launch_template_data=ec2.CfnLaunchTemplate.LaunchTemplateDataProperty(
                image_id=f"resolve:ssm:{IMAGE_PARAMETER}",
                instance_type=instance_type,
                metadata_options=ec2.CfnLaunchTemplate.MetadataOptionsProperty(http_tokens="required"),
                user_data=cdk.Fn.base64(
                    USER_DATA.replace("@STACK@", cdk.Aws.STACK_NAME)
                    .replace("@RESOURCE@", INSTANCE_ID)
                    .replace("@REGION@", cdk.Aws.REGION)
                ),
            ),
        )
        instance = ec2.CfnInstance(
            self,
            "Instance",
            launch_template=ec2.CfnInstance.LaunchTemplateSpecificationProperty(
                launch_template_id=template.ref, version=template.attr_latest_version_number
            ),
            subnet_id=public_subnet_id,
            security_group_ids=[group.attr_group_id],
            block_device_mappings=[
                ec2.CfnInstance.BlockDeviceMappingProperty(
                    device_name="/dev/xvda",
                    ebs=ec2.CfnInstance.EbsProperty(volume_size=8, volume_type="gp3", encrypted=True),
                )
            ],
            # The source/destination check would drop forwarded packets.
            source_dest_check=False,
            tags=[cdk.CfnTag(key="Name", value=f"{prefix}-nat")],
        )
        instance.override_logical_id(INSTANCE_ID)
        instance.cfn_options.creation_policy = cdk.CfnCreationPolicy(
            resource_signal=cdk.CfnResourceSignal(count=1, timeout=READY_WITHIN)
        )
        accept(instance, "Five-minute metrics are enough for a machine that only forwards", "AwsSolutions-EC28")
        accept(instance, "It has no state and can be created again", "AwsSolutions-EC29")
        address = ec2.CfnEIP(self, "Address", domain="vpc", instance_id=instance.ref)
        address.add_resource_dependency(after)
        self.instance_id = instance.ref
