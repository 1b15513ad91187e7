"""A minimal Debian, bootstrapped from its packages, in mount and process namespaces."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PACKAGES = ("python3", "python3-venv", "ca-certificates")
"""The README's requirements. `ca-certificates` has the folder for this machine's certificates."""
NETWORK_PACKAGES = ("nftables", "iproute2")
USER = 1000
BOOTSTRAP_SECONDS = 1200
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_PASSED_ON = ("PIP_CERT", "PIP_INDEX_URL", "PIP_DEFAULT_TIMEOUT", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS")
_PASSED_ON_PREFIXES = ("UV_", "npm_config_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy")
"""Variables for the package registries."""
# A separate root by pivot_root, as in a container: after chroot the kernel creates no user namespaces.
# https://man7.org/linux/man-pages/man7/user_namespaces.7.html
_ENTER = """
set -e
root=$1
shift
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
mkdir -p "$root/.former"
cd "$root"
pivot_root . .former
cd /
umount -l /.former
rmdir /.former
exec "$@"
"""


@dataclass(frozen=True)
class Debian:
    """One machine. Its files remain after a call of `run`; its processes do not."""

    root: Path

    def run(
        self, script: str, *, as_root: bool, variables: dict[str, str], seconds: float
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell script in the checkout of root or of the ordinary user. Its remaining processes are killed."""
        home = self.home(as_root=as_root)
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": home,
            "LANG": "C.UTF-8",
            **{name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON_PREFIXES)},
            **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            **variables,
        }
        drop = () if as_root else ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups")
        return subprocess.run(
            [
                *("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"),
                *("sh", "-c", _ENTER, "sh", str(self.root), *drop),
                *("sh", "-c", f"cd {home}/alva && {script}"),
            ],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    @staticmethod
    def home(*, as_root: bool) -> str:
        """The home of root, or of the ordinary user."""
        return "/root" if as_root else "/home/person"

    def check_out(self, *, as_root: bool) -> Path:
        """Copy the project's files into a home; its owner becomes their owner."""
        home = self.root / self.home(as_root=as_root).lstrip("/")
        checkout = home / "alva"
        checkout.mkdir(parents=True)
        names = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for name in filter(None, names.split("\0")):
            if (PROJECT / name).exists():
                (checkout / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(PROJECT / name, checkout / name, follow_symlinks=False)
        owner = 0 if as_root else USER
        subprocess.run(["chown", "-R", f"{owner}:{owner}", str(home)], check=True)
        return checkout


@contextmanager
def bootstrapped(release: str, folder: Path, packages: Sequence[str]) -> Iterator[Debian]:
    """Bootstrap the Debian `release` ("trixie") in `folder`, with `packages` and the required ones; removed at the end.

    Takes one to five minutes and 270 MB. Raises CalledProcessError with debootstrap's output.
    """
    root = folder / release
    try:
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={','.join(packages)}", release, str(root), *_mirror()],
            check=True,
            capture_output=True,
            text=True,
            timeout=BOOTSTRAP_SECONDS,
        )
        if _CERTIFICATES.exists():
            shutil.copy(_CERTIFICATES, root / _CERTIFICATES.relative_to("/"))
        # A container's /etc/hosts can be empty.
        (root / "etc/hosts").write_text("")
        with (root / "etc/passwd").open("a") as users:
            users.write(f"person:x:{USER}:{USER}::/home/person:/bin/sh\n")
        yield Debian(root)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _mirror() -> list[str]:
    """The mirror of this machine's apt if it is a Debian, otherwise debootstrap's default."""
    if shutil.which("apt-get") is None:
        return []
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    mirrors = [line.rpartition("|")[2] for line in listed.splitlines() if line.startswith("Debian|Debian|")]
    return mirrors[:1]
