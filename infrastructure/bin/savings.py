"""Synthesises an environment once for each saving, for `./alva cost`: templates to `CDK_OUTDIR/<saving>/`.

Also writes `CDK_OUTDIR/savings.json`: the savings in order, each with its name and its drawback (`price`).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

INFRASTRUCTURE = Path(__file__).resolve().parent.parent


def main() -> int:
    sys.path.insert(0, str(INFRASTRUCTURE))
    from lib.node import prepare_node

    prepare_node()
    from lib.composition import compose
    from lib.config.environments import ENVIRONMENTS
    from lib.config.savings import savings
    from lib.manifest import write_manifest

    folder = Path(os.environ["CDK_OUTDIR"])
    found = savings(ENVIRONMENTS[os.environ.get("ALVA_ENVIRONMENT", "staging")])
    for saving in found:
        compose(saving.environment, folder / saving.name).synth()
        write_manifest(saving.environment, folder / saving.name)
    index = [{"name": saving.name, "price": saving.drawback} for saving in found]
    (folder / "savings.json").write_text(json.dumps(index, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
