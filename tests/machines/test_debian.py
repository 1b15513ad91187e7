"""The README's commands on a minimal Debian with its own Python.

Only Debian: Ubuntu's packages were not available where these tests were written. Ubuntu 24.04 has a job in
`.github/workflows/ci.yml`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from alva.region import daemon
from tests.conftest import reserved_region_config

from .debian import NETWORK_PACKAGES, PACKAGES, Debian, bootstrapped

pytestmark = [pytest.mark.nightly, pytest.mark.region]

SECONDS = 900
TIMED = """
timed() {
    began=$(date +%s%N)
    "$@" || exit
    echo "$(( ($(date +%s%N) - began) / 1000000 )) ms: $*" >&2
}
trap './alva down >/dev/null 2>&1' EXIT
"""
SCRIPT = f"""{TIMED}
timed ./alva --version >/dev/null
timed ./alva up >/dev/null
echo '# edited' >>apps/api/app.py
timed ./alva up >/dev/null
./alva status --json
"""


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def debian(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Debian]:
    """Debian 12 (Python 3.11, with nftables) and Debian 13 (Python 3.13, without)."""
    if os.geteuid() != 0:
        pytest.fail("cannot bootstrap a Debian: only root can; run as root, or leave --all out")
    if shutil.which("debootstrap") is None:
        pytest.fail("cannot bootstrap a Debian: debootstrap is not installed; apt-get install debootstrap")
    network = NETWORK_PACKAGES if request.param == "bookworm" else ()
    with bootstrapped(request.param, tmp_path_factory.mktemp("debian"), (*PACKAGES, *network)) as machine:
        yield machine


@pytest.mark.parametrize("as_root", [True, False], ids=["root", "ordinary user"])
def test_environment_starts_and_can_be_released(
    debian: Debian, as_root: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """As root from a clone with umask 077: database and cache run as users who cannot read it."""
    checkout = debian.check_out(as_root=as_root)
    if as_root:
        subprocess.run(["chmod", "-R", "go=", str(checkout)], check=True)
    home = Path(debian.home(as_root=as_root))
    with reserved_region_config(home / "alva/.alva") as config:
        script = f"umask 077\n{SCRIPT}" if as_root else SCRIPT
        ended = debian.run(script, as_root=as_root, variables=daemon.environment_of(config), seconds=SECONDS)
    with capsys.disabled():  # the measured durations
        print(f"\n{debian.root.name}, {'root' if as_root else 'ordinary user'}:")
        print("\n".join(line for line in ended.stderr.splitlines() if " ms: " in line))
    assert ended.returncode == 0, ended.stderr[-6000:]
    status = json.loads(ended.stdout)
    assert status["services"]
    assert all(each["running"] == each["desired"] for each in status["services"]), status["services"]
    if debian.root.name == "trixie":
        assert "this machine has no such Python, so its Python 3.13 is used" in ended.stderr
