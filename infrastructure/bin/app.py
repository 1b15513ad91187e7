"""Synthesises one environment: `ALVA_ENVIRONMENT=staging python infrastructure/bin/app.py`.

Writes CloudFormation templates and `alva.json` to `cdk.out/` (or `CDK_OUTDIR`). It makes no AWS call.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

INFRASTRUCTURE = Path(__file__).resolve().parent.parent


def synthesise(name: str, output_folder: Path) -> None:
    """Write the environment's templates and manifest. Raises SettingError for an invalid setting."""
    from lib.config.environments import ENVIRONMENTS
    from lib.config.errors import SettingError

    if name not in ENVIRONMENTS:
        raise SettingError("ALVA_ENVIRONMENT", name, f"one of {', '.join(ENVIRONMENTS)}")

    from lib.composition import compose
    from lib.manifest import write_manifest

    compose(ENVIRONMENTS[name], output_folder).synth()
    write_manifest(ENVIRONMENTS[name], output_folder)


def main() -> int:
    sys.path.insert(0, str(INFRASTRUCTURE))
    from lib.config.errors import SettingError
    from lib.node import prepare_node

    prepare_node()

    output_folder = Path(os.environ.get("CDK_OUTDIR") or INFRASTRUCTURE.parent / "cdk.out")
    try:
        # The settings are checked when their module is imported.
        synthesise(os.environ.get("ALVA_ENVIRONMENT", "staging"), output_folder)
    except SettingError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
