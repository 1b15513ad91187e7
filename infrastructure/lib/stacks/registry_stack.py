"""One image repository per service."""

from __future__ import annotations

import json

import aws_cdk as cdk
from aws_cdk import aws_ecr as ecr
from constructs import Construct

from lib.config.environments import Environment
from lib.constructs.accepted_findings import accept
from lib.stacks.environment_stack import EnvironmentStack

IMAGES_KEPT = 30

# Later rules skip an image that an earlier rule matches. A successful release adds the tag `released-<n>`
# (`src/alva/release/images.py`). The running image was released last, so it is among the last 30 released images,
# however many unreleased builds follow. A release does not tag an image again that keeps running: ECR allows 1,000 tags
# per image.
# https://docs.aws.amazon.com/AmazonECR/latest/userguide/LifecyclePolicies.html
LIFECYCLE_POLICY = {
    "rules": [
        {
            "rulePriority": 1,
            "description": f"Keep the last {IMAGES_KEPT} images that were released",
            "selection": {
                "tagStatus": "tagged",
                "tagPrefixList": ["released-"],
                "countType": "imageCountMoreThan",
                "countNumber": IMAGES_KEPT,
            },
            "action": {"type": "expire"},
        },
        {
            "rulePriority": 2,
            "description": "Delete untagged images after a day",
            "selection": {
                "tagStatus": "untagged",
                "countType": "sinceImagePushed",
                "countUnit": "days",
                "countNumber": 1,
            },
            "action": {"type": "expire"},
        },
        {
            "rulePriority": 3,
            "description": f"Keep the last {IMAGES_KEPT} of all others",
            "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": IMAGES_KEPT},
            "action": {"type": "expire"},
        },
    ]
}


class RegistryStack(EnvironmentStack):
    """One repository for each service, with the name of the service."""

    def __init__(self, scope: Construct, *, environment: Environment) -> None:
        super().__init__(scope, "registry", environment=environment, description="Image repositories")
        self.repositories: dict[str, ecr.CfnRepository] = {}
        for service in environment.services:
            repository = ecr.CfnRepository(
                self,
                f"{service.construct_id}Repository",
                repository_name=service.service_name,
                image_tag_mutability="IMMUTABLE",
                image_scanning_configuration=ecr.CfnRepository.ImageScanningConfigurationProperty(scan_on_push=True),
                encryption_configuration=ecr.CfnRepository.EncryptionConfigurationProperty(encryption_type="AES256"),
                lifecycle_policy=ecr.CfnRepository.LifecyclePolicyProperty(
                    lifecycle_policy_text=json.dumps(LIFECYCLE_POLICY, separators=(",", ":"))
                ),
            )
            # A rollback needs the images. They are kept when the stack is deleted; `destroy --forget images` deletes
            # them.
            repository.cfn_options.deletion_policy = cdk.CfnDeletionPolicy.RETAIN
            repository.cfn_options.update_replace_policy = cdk.CfnDeletionPolicy.RETAIN
            accept(repository, "Images hold no secret and no customer data: ECR's own key is enough", "CKV_AWS_136")
            self.repositories[service.name] = repository
