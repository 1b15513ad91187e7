"""The region's process: `python -m alva.region`, started by `alva.region.daemon`."""

from __future__ import annotations

import asyncio
import gc
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
    """Run the region until SIGTERM. The last line of standard error describes an expected failure, as JSON."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s [%(name)s] %(message)s", datefmt="%Y-%m-%d %H:%M:%S"
    )
    # Tasks, databases and caches run as other users, and read folders that the region makes.
    os.umask(0o022)
    config = RegionConfig.from_environment(Path.cwd() / ".alva")
    environment.prepare(config)
    # The modules stay. Garbage collection among them would slow down the import, and later block the event loop.
    gc.disable()
    from alva.region.server import run  # It imports MiniStack.

    gc.freeze()
    gc.enable()

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
    # The state is saved and no child process is left. Exit at once: `down` need not wait for the interpreter's
    # clean-up.
    os._exit(code)
