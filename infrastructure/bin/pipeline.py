"""Prints the inputs of the release workflow as lines NAME=VALUE for GITHUB_OUTPUT.

`services`: the names of the services, as JSON. `runner`: the label of the runner that builds their images. It needs the
standard library only, so the workflow installs nothing for it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main() -> int:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from lib.config.environments import ENVIRONMENTS

    environment = ENVIRONMENTS[os.environ.get("ALVA_ENV", "staging")]
    print(f"services={json.dumps([service.name for service in environment.services])}")
    print(f"runner={environment.runner}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
