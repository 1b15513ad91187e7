"""The region's process: `python -m alva.region`, started by `alva.region.daemon`."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from pathlib import Path

from alva.errors import AlvaError
from alva.region import environment
from alva.region.config import RegionConfig

logger = logging.getLogger("alva.region")


def main() -> int:
    """Run the region until it is told to stop. An expected failure is the last line of standard error, as JSON."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s [%(name)s] %(message)s", datefmt="%Y-%m-%d %H:%M:%S"
    )
    config = RegionConfig.from_environment(Path.cwd() / ".alva")
    environment.prepare(config)
    from alva.region.server import run  # It imports MiniStack.

    try:
        asyncio.run(run(config))
    except AlvaError as error:
        logger.error("%s", error)
        print(json.dumps(error.as_json()), file=sys.stderr, flush=True)
        return 1
    except Exception:
        logger.exception("the region ended with an error")
        return 1
    return 0


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    # Everything is written down, and no child is left: taking the interpreter apart would only keep `down` waiting.
    os._exit(code)
