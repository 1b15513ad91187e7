"""Examples of every verb, shown at the end of its help. A test parses each one."""

from __future__ import annotations

from collections.abc import Mapping

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "up": ("./alva up", "ALVA_EDGE_PORT=8081 ./alva up"),
    "down": ("./alva down", "./alva down --wipe --yes"),
    "synth": ("./alva synth --env production",),
    "preflight": ("./alva preflight --target aws", "./alva preflight --reachability"),
    "build": ("./alva build api", "./alva build --target aws --push api"),
    "deploy": (
        "./alva deploy --dry-run",
        "./alva deploy --service api",
        "./alva deploy --target aws --image api=sha256:" + "0" * 64,
    ),
    "migrate": ("./alva migrate",),
    "verify": ("./alva verify --target aws",),
    "releases": ("./alva releases --last 5",),
    "summary": ("./alva summary --target aws",),
    "open": ("./alva open", "./alva open --target aws --no-browser"),
    "draw": ("./alva draw --output architecture.svg", "./alva draw --changes --output changes.svg"),
    "status": ("./alva status", "./alva status --target aws --json"),
    "logs": ("./alva logs -f api", "./alva logs --since 30m"),
    "cost": ("./alva cost", "./alva cost --env production --no-savings"),
    "exec": ("./alva exec api", "./alva exec api --container worker -- python -c 'import os; print(os.environ)'"),
    "run": ("./alva run auth -- python -m auth.promote me@example.com",),
    "secrets": ("./alva secrets list", "./alva secrets set openai-api-key --restart < key.txt", "./alva secrets audit"),
    "bootstrap": ("./alva bootstrap --target aws",),
    "sleep": ("./alva sleep --target aws",),
    "wake": ("./alva wake --target aws",),
    "destroy": ("./alva destroy --target aws", "./alva destroy --confirm staging --forget secrets --forget images"),
    "completion": ("./alva completion bash > ~/.local/share/bash-completion/completions/alva",),
    "test": ("./alva test tests/unit -k plan",),
    "check": ("./alva check", "./alva check lint format"),
    "diff": ("./alva diff", "./alva diff --target aws --json"),
    "rollback": ("./alva rollback 12",),
    "why": ("./alva why", "./alva why api"),
    "lock": ("./alva lock", "./alva lock the database moves until noon"),
    "unlock": ("./alva unlock",),
}
"""Verb -> its examples."""


def epilog(verb: str) -> str | None:
    """Return the examples for the end of a verb's help; None if there are none."""
    examples = EXAMPLES.get(verb)
    if examples is None:
        return None
    # A backspace keeps click from wrapping the paragraph.
    return "\b\n" + "\n".join(["Examples:" if len(examples) > 1 else "Example:", *(f"  {each}" for each in examples)])
