"""Network namespaces of this machine. Each is created, entered and configured by a thread inside it.

A namespace has no name here: it exists while a process is in it or the region holds its descriptor. So none remains,
however the region ends. Its interfaces are deleted with it.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

CLONE_NEWNET = 0x40000000
_COMMAND_TIMEOUT_SECONDS = 20.0

_libc = ctypes.CDLL(None, use_errno=True)

T = TypeVar("T")


class NetworkFailed(Exception):
    """The kernel, `ip` or `nft` refused an operation; the text names the operation and the reason."""


class Namespace:
    """A network namespace, held by a descriptor of this process."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @property
    def path(self) -> str:
        """A path to it for this machine's other processes, valid while this process runs."""
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"

    def close(self) -> None:
        """Close the descriptor. The namespace ends with the last process in it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class Place:
    """A thread in a network namespace, which runs functions there.

    The region's other threads, and so the processes that it starts, remain in their namespace.
    """

    def __init__(self, name: str) -> None:
        """Create a namespace with a loopback interface, and a thread in it. Raises NetworkFailed."""
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        try:
            self.namespace = self._executor.submit(self._settle).result()
        except BaseException:
            self._executor.shutdown()
            raise

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """Run a function in the namespace, one at a time."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *arguments)

    def run_now(self, work: Callable[..., T], *arguments: object) -> T:
        """Run a function in the namespace and wait for it: short work, or work before anything is served."""
        return self._executor.submit(work, *arguments).result()

    def make_neighbour(self, prepare: Callable[[Namespace], None]) -> Namespace:
        """Create another namespace, and call `prepare` in it. Call this in the namespace's thread."""
        neighbour = _make()
        try:
            prepare(neighbour)
        except BaseException:
            neighbour.close()
            raise
        finally:
            _enter(self.namespace)
        return neighbour

    def close(self) -> None:
        """End the thread and close the namespace."""
        self._executor.shutdown()
        self.namespace.close()

    def _settle(self) -> Namespace:
        namespace = _make()
        run("ip", "link", "set", "lo", "up")
        return namespace


def stream_socket() -> socket.socket:
    """A TCP socket of the calling thread's namespace; it remains in that namespace.

    asyncio sets TCP_NODELAY for its connections, because it names its protocol.
    """
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)


def own_namespace() -> Namespace:
    """The namespace of the calling thread."""
    return Namespace(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))


def find_program(name: str) -> str | None:
    """The path of a program, also in root's folders if PATH lacks them."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def run(*argv: str, lines: Sequence[str] = ()) -> None:
    """Run a program in the calling thread's namespace, with `lines` as its input. Raises NetworkFailed."""
    text = "".join(line + "\n" for line in lines)
    program = find_program(argv[0])
    try:
        done = subprocess.run(
            [program or argv[0], *argv[1:]],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=_COMMAND_TIMEOUT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NetworkFailed(f"{' '.join(argv)}: {error}") from error
    if done.returncode != 0:
        raise NetworkFailed(f"{' '.join(argv)}: {done.stderr.strip() or f'exit code {done.returncode}'}")


def _make() -> Namespace:
    _checked("create a network namespace", _libc.unshare(CLONE_NEWNET))
    return own_namespace()


def _enter(namespace: Namespace) -> None:
    _checked("enter a network namespace", _libc.setns(namespace.descriptor, CLONE_NEWNET))


def _checked(what: str, result: int) -> None:
    if result < 0:
        raise NetworkFailed(f"{what}: {os.strerror(ctypes.get_errno())}")
