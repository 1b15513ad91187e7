"""Renders Alembic revisions as SQL, without a database: `python -m alva.checks.alembic_sql FILE...`.

It executes the revisions' `upgrade`, so it runs as a separate process. It prints file name -> {"sql": ...}, or
{"error": ...} for a revision that cannot be rendered, for example because it queries the database.
"""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path


def render(file: Path) -> str:
    """Return the PostgreSQL of a revision's `upgrade`. Raises whatever the revision raises."""
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    spec = importlib.util.spec_from_file_location(f"revision_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import {file}")
    module = importlib.util.module_from_spec(spec)
    output = io.StringIO()
    context = MigrationContext.configure(
        dialect_name="postgresql", opts={"as_sql": True, "output_buffer": output, "literal_binds": True}
    )
    with Operations.context(context):
        spec.loader.exec_module(module)
        module.upgrade()
    return output.getvalue()


def main() -> None:
    """Render the revisions of the command line."""
    rendered: dict[str, dict[str, str]] = {}
    with redirect_stdout(sys.stderr):
        for file in map(Path, sys.argv[1:]):
            try:
                rendered[file.name] = {"sql": render(file)}
            except BaseException as error:  # a revision can raise anything, even SystemExit
                rendered[file.name] = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(rendered))


if __name__ == "__main__":
    main()
