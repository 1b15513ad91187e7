"""The bucket for the load balancer's access logs."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_s3 as s3
from aws_cdk import region_info
from constructs import Construct

from lib.config.environments import Environment
from lib.constructs.accepted_findings import accept

ACCESS_LOG_PREFIX = "alb"


class AccessLogs(Construct):
    """Attributes: `bucket_name` and `bucket_policy`.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/enable-access-logging.html
    """

    def __init__(self, scope: Construct, construct_id: str, *, environment: Environment) -> None:
        super().__init__(scope, construct_id)
        bucket = s3.CfnBucket(
            self,
            "Bucket",
            # Load balancers can write only to buckets with SSE-S3.
            bucket_encryption=s3.CfnBucket.BucketEncryptionProperty(
                server_side_encryption_configuration=[
                    s3.CfnBucket.ServerSideEncryptionRuleProperty(
                        server_side_encryption_by_default=s3.CfnBucket.ServerSideEncryptionByDefaultProperty(
                            sse_algorithm="AES256"
                        )
                    )
                ]
            ),
            public_access_block_configuration=s3.CfnBucket.PublicAccessBlockConfigurationProperty(
                block_public_acls=True, block_public_policy=True, ignore_public_acls=True, restrict_public_buckets=True
            ),
            ownership_controls=s3.CfnBucket.OwnershipControlsProperty(
                rules=[s3.CfnBucket.OwnershipControlsRuleProperty(object_ownership="BucketOwnerEnforced")]
            ),
            versioning_configuration=s3.CfnBucket.VersioningConfigurationProperty(status="Enabled"),
            lifecycle_configuration=s3.CfnBucket.LifecycleConfigurationProperty(
                rules=[
                    s3.CfnBucket.RuleProperty(
                        id="expire",
                        status="Enabled",
                        expiration_in_days=environment.tasks.log_retention_days,
                        noncurrent_version_expiration=s3.CfnBucket.NoncurrentVersionExpirationProperty(
                            noncurrent_days=1
                        ),
                        abort_incomplete_multipart_upload=s3.CfnBucket.AbortIncompleteMultipartUploadProperty(
                            days_after_initiation=1
                        ),
                    )
                ]
            ),
        )
        # A bucket with objects cannot be deleted with its stack.
        bucket.cfn_options.deletion_policy = cdk.CfnDeletionPolicy.RETAIN
        bucket.cfn_options.update_replace_policy = cdk.CfnDeletionPolicy.RETAIN
        accept(
            bucket,
            "This bucket holds the access logs; nobody would read the logs of its own access",
            "AwsSolutions-S1",
            "CKV_AWS_18",
        )
        self.bucket_name = bucket.ref
        # In regions from before August 2022 an account of Elastic Load Balancing writes the logs. AWS's current page
        # says that the service principal works in all regions; older pages limit it to the newer ones.
        writers: dict[str, str] = {"Service": "logdelivery.elasticloadbalancing.amazonaws.com"}
        if account := region_info.RegionInfo.get(environment.region).elbv2_account:
            writers["AWS"] = f"arn:{cdk.Aws.PARTITION}:iam::{account}:root"
        self.bucket_policy = s3.CfnBucketPolicy(
            self,
            "BucketPolicy",
            bucket=bucket.ref,
            policy_document={
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Sid": "LoadBalancerWrites",
                        "Effect": "Allow",
                        "Principal": writers,
                        "Action": "s3:PutObject",
                        "Resource": f"{bucket.attr_arn}/{ACCESS_LOG_PREFIX}/AWSLogs/{cdk.Aws.ACCOUNT_ID}/*",
                    },
                    {
                        "Sid": "TlsOnly",
                        "Effect": "Deny",
                        "Principal": "*",
                        "Action": "s3:*",
                        "Resource": [bucket.attr_arn, f"{bucket.attr_arn}/*"],
                        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
                    },
                ],
            },
        )
