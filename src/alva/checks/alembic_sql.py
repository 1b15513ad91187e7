"""Renders Alembic revisions as SQL, without a database: `python -m alva.checks.alembic_sql FILE...`.

It executes the revisions' `upgrade`, so it runs as a separate process. It prints file name -> {"sql": ...}, or
{"error": ...} for a revision that cannot be rendered, for example because it queries the database.
"""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType


def render(file: Path) -> str:
    """Return the PostgreSQL of a revision's `upgrade`. Raises whatever the revision raises."""
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    module = ModuleType(f"revision_{file.stem}")
    module.__file__ = str(file)
    output = io.StringIO()
    context = MigrationContext.configure(
        dialect_name="postgresql", opts={"as_sql": True, "output_buffer": output, "literal_binds": True}
    )
    with Operations.context(context):
        # An import would write bytecode beside the revision, and use it for a revision of the same second and size.
        exec(compile(file.read_bytes(), str(file), "exec"), module.__dict__)  # noqa: S102
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
