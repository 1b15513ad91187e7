# pathlib is not imported, paths are those of the sandbox, and the job is trusted:
# ruff: noqa: PTH101, PTH102, PTH116, PTH123, PTH211, S108, S302, S606
"""Creates a process's view of the machine, drops its privileges, and executes the program.

Run by the supervisor as `python -I -S launch.py JOB_FD`; that file holds a job (see `supervisor.py`) in marshal's form.
It has few imports, since every task and health check waits for it. In a sandbox the program is a child of the
*supervisor* (CLONE_PARENT) and process 1 of its own process namespace; this process ends.

Messages to the supervisor are lines on the job's status pipe: `pid N`, `error TEXT`. The pipe closes at exec.
"""

from __future__ import annotations

import ctypes
import errno
import marshal
import os
import stat
import sys

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID = 0x20000, 0x8000000, 0x10000000, 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_PARENT, SIGCHLD, SIGPIPE, SIGXFSZ, SIGKILL = 0x8000, 17, 13, 25, 9
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE, MS_SLAVE = 2, 4, 8, 4096, 16384, 1 << 18, 1 << 19
MNT_DETACH, AT_FDCWD, AT_RECURSIVE = 2, -100, 0x8000
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID = 1, 2
TIOCSCTTY = 0x540E
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 24, 38
SYSTEM_CALLS = {  # clone, pivot_root, mount_setattr
    "x86_64": (56, 155, 442),
    "aarch64": (220, 41, 442),
}
# Docker's capabilities of root in a container: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap,
# net_bind_service, net_raw, sys_chroot, mknod, audit_write, setfcap.
KEPT_CAPABILITIES = {0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31}
LAST_CAPABILITY = 63
DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"

TYPE_CHECKING = False  # typing is not imported either
if TYPE_CHECKING:
    from typing import Any

    Job = dict[str, Any]

libc = ctypes.CDLL(None, use_errno=True)


class StepFailed(Exception):
    """A step failed; the text has the step and the reason."""


def checked(what: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise StepFailed(f"{what}: {os.strerror(number)} ({errno.errorcode.get(number, number)})")
    return result


def encoded(path: str | None) -> bytes | None:
    return path.encode() if path is not None else None


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    result = libc.mount(encoded(source), encoded(target), encoded(kind), ctypes.c_ulong(flags), encoded(options))
    checked(f"mount {source or kind} at {target}", result)


def system_call(which: int, *arguments: object) -> int:
    machine = os.uname().machine
    if machine not in SYSTEM_CALLS:
        raise StepFailed(f"no system call numbers for {machine}")
    return int(libc.syscall(ctypes.c_long(SYSTEM_CALLS[machine][which]), *arguments))


def restrict_mount(path: str, attributes: int, recursive: bool) -> None:
    """Set mount attributes; with `recursive` also on all mounts below, which a bound folder can have (Linux 5.12)."""
    request = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)
    flags = AT_RECURSIVE if recursive else 0
    result = system_call(2, AT_FDCWD, path.encode(), flags, request, ctypes.c_size_t(ctypes.sizeof(request)))
    checked(f"make {path} read-only", result)


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


# -- namespaces ---


def enter_namespaces(job: Job) -> None:
    """Enter new mount and IPC namespaces, and a user namespace if this process is not root."""
    user = job["user"] or (0, 0)
    outside = os.geteuid(), os.getegid()
    if outside[0] != 0:
        checked("enter a user namespace", libc.unshare(CLONE_NEWUSER))
        write("/proc/self/setgroups", "deny")
        write("/proc/self/uid_map", f"{user[0]} {outside[0]} 1")
        write("/proc/self/gid_map", f"{user[1]} {outside[1]} 1")
    checked("enter a mount namespace", libc.unshare(CLONE_NEWNS | CLONE_NEWIPC))
    # Later mounts and unmounts of the machine apply here too; ours do not apply to the machine.
    mount(None, "/", None, MS_REC | MS_SLAVE)


def enter_limits(folder: str) -> None:
    """Join a control group (0 stands for the writing process); child processes inherit it."""
    write(folder + "/cgroup.procs", "0")


def enter_network(descriptor: int) -> None:
    """Enter the network namespace that the region created."""
    checked("enter a network namespace", libc.setns(descriptor, CLONE_NEWNET))
    os.close(descriptor)


def join_namespaces(pid: int, has_network: bool) -> None:
    """Enter the namespaces of the running process `pid`, with its network namespace if it has its own."""
    flags = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWPID | (CLONE_NEWNET if has_network else 0)
    if os.geteuid() != 0:
        flags |= CLONE_NEWUSER
    process = os.pidfd_open(pid)
    checked(f"enter the namespaces of process {pid}", libc.setns(process, flags))
    os.close(process)


def continue_as_child(flags: int, status: int) -> None:
    """Continue in a child of our parent, in a new process namespace; this process reports its id and ends.

    The child ends if its id was not reported because this process was killed: nobody would know it.
    """
    reported, report = os.pipe()
    pid = system_call(0, ctypes.c_ulong(flags | CLONE_PARENT | SIGCHLD), None, None, None, None)
    if checked("start process 1 of the sandbox", pid) > 0:
        os.write(status, f"pid {pid}\n".encode())
        os.write(report, b".")
        os._exit(0)
    os.close(report)
    if not os.read(reported, 1):
        os._exit(127)
    os.close(reported)
    os.setsid()


# -- files ---


def lay_out_files(job: Job) -> None:
    """Build the new root from the old one, then unmount the old one."""
    # The new root is mounted at /tmp, a folder that every machine has. Nothing is bound
    # from it by that path, since the old root stays reachable at /old.
    mount("alva", "/tmp", "tmpfs", MS_NOSUID, "mode=755")
    os.mkdir("/tmp/old")
    os.mkdir("/tmp/new")
    checked("change the root", system_call(1, b"/tmp", b"/tmp/old"))
    os.chdir("/")
    mount("alva", "/new", "tmpfs", MS_NOSUID, "mode=755")
    for step in job["steps"]:
        take_step(*step)
    mount_processes("/new/proc")
    if job["read_only_root"]:
        restrict_mount("/new", MOUNT_ATTR_RDONLY, recursive=False)
    os.chdir("/new")
    checked("change the root", system_call(1, b".", b"."))
    checked("leave the old root", libc.umount2(b".", MNT_DETACH))
    os.chdir("/")


def take_step(action: str, path: str, *details: Any) -> None:
    if action in ("tmpfs", "directory", "place", "replace", "relink"):
        take_step_in_root(action, resolved_inside(path, action in ("replace", "relink")), *details)
        return
    path = "/new" + path
    if action == "folder":
        os.mkdir(path)
        os.chmod(path, details[0])
    elif action == "memory":
        os.mkdir(path)
        mount("alva", path, "tmpfs", MS_NOSUID | MS_NODEV, f"mode={details[0]:o}")
    elif action == "link":
        os.symlink(details[0], path)
    elif action == "text":
        write(path, details[0])
    elif action == "bind":
        source, is_folder, is_writable = details
        if is_folder:
            os.mkdir(path)
        else:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
        bind(source, path, is_writable)
    elif action == "over":
        bind(details[0], path, details[1])
    elif action == "root":
        mount_root(details[0])
    else:
        raise StepFailed(f"no such step: {action}")


def mount_root(folder: str) -> None:
    """Mount the image's root under an overlay in memory, so that mount points and writes do not change the image."""
    os.mkdir("/upper")
    for name in ("files", "work"):
        os.mkdir("/upper/" + name)
    status = os.stat("/old" + folder)
    os.chmod("/upper/files", stat.S_IMODE(status.st_mode))
    escaped = ("/old" + folder).replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")
    options = f"lowerdir={escaped},upperdir=/upper/files,workdir=/upper/work"
    mount("overlay", "/new", "overlay", MS_NOSUID | MS_NODEV, options)


def resolved_inside(path: str, keep_last: bool) -> str:
    """The location of `path` in the new root, with links followed relative to it; `keep_last` keeps the last link."""
    done, todo, links = "/new", [part for part in path.split("/") if part], 0
    while todo:
        name = todo.pop(0)
        if name == "..":
            done = done.rpartition("/")[0] if done != "/new" else done
            continue
        if name == ".":
            continue
        done = f"{done}/{name}"
        if os.path.islink(done) and (todo or not keep_last):  # noqa: PTH114
            links += 1
            if links > 40:
                raise StepFailed(f"too many links in {path}")
            target = os.readlink(done)  # noqa: PTH115
            done = "/new" if target.startswith("/") else done.rpartition("/")[0]
            todo = [part for part in target.split("/") if part] + todo
    return done


def take_step_in_root(action: str, path: str, *details: Any) -> None:
    folder = path if action in ("tmpfs", "directory") or (action == "place" and details[1]) else path.rpartition("/")[0]
    os.makedirs(folder, exist_ok=True)  # noqa: PTH103
    if action == "tmpfs":
        mount("alva", path, "tmpfs", MS_NOSUID, f"mode={details[0]:o}")
    elif action == "place":
        source, is_folder, is_writable = details
        if not is_folder and not os.path.exists(path):  # noqa: PTH110
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
        bind(source, path, is_writable)
    elif action in ("replace", "relink"):
        if os.path.lexists(path):
            os.unlink(path)  # noqa: PTH108
        if action == "replace":
            write(path, details[0])
        else:
            os.symlink(details[0], path)


def bind(source: str, path: str, is_writable: bool) -> None:
    mount("/old" + source, path, None, MS_BIND | MS_REC)
    restrict_mount(path, MOUNT_ATTR_NOSUID if is_writable else MOUNT_ATTR_NOSUID | MOUNT_ATTR_RDONLY, recursive=True)


def mount_processes(path: str) -> None:
    """Mount a new /proc, or bind the present one if the kernel refuses (in a container that hides parts of /proc)."""
    try:
        mount("proc", path, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    except StepFailed:
        mount("/old/proc", path, None, MS_BIND | MS_REC)


# -- rights ---


def drop_privileges(job: Job) -> None:
    if job["steps"] is not None or job["join"] is not None:
        for capability in range(LAST_CAPABILITY + 1):
            if capability not in KEPT_CAPABILITIES:
                libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # EINVAL after the kernel's last capability
    if job["user"] is not None and os.geteuid() == 0 and not job["in_user_namespace"]:
        uid, gid = job["user"]
        for descriptor in (1, 2):  # so that the program may open /dev/stdout
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                os.fchown(descriptor, uid, gid)
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    checked("forbid new privileges", libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    # Set after the change of user, which clears it.
    checked("tie to the supervisor", libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0))


def become_program(job: Job) -> None:
    if job["terminal"]:
        checked("take the terminal", libc.ioctl(0, ctypes.c_ulong(TIOCSCTTY), 0))
    os.chdir(job["working_directory"])
    for number in (SIGPIPE, SIGXFSZ):  # Python ignores these signals, and a program would inherit that.
        libc.signal(number, None)
    argv, environment = job["argv"], job["environment"]
    # Not os.execvpe: it imports modules, and Python's library may not be visible any more.
    folders = [""] if "/" in argv[0] else [f"{folder}/" for folder in environment.get("PATH", DEFAULT_PATH).split(":")]
    if job["init"]:
        become_init(job, [folder + argv[0] for folder in folders])
    was_refused = False
    for folder in folders:
        try:
            os.execve(folder + argv[0], argv, environment)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except PermissionError:
            was_refused = True
    if was_refused:
        raise StepFailed(f'exec: "{argv[0]}": permission denied')
    where = "no such file or directory" if "/" in argv[0] else "executable file not found in $PATH"
    raise StepFailed(f'exec: "{argv[0]}": {where}')


def become_init(job: Job, candidates: list[str]) -> None:
    """Execute the init, which starts the program. Without the program, end like tini, as on AWS."""
    if not any(os.access(path, os.X_OK) for path in candidates):
        is_refused = any(os.access(path, os.F_OK) for path in candidates)
        reason = "Permission denied" if is_refused else "No such file or directory"
        os.write(2, f"[FATAL tini (7)] exec {job['argv'][0]} failed: {reason}\n".encode())
        os._exit(126 if is_refused else 127)
    os.execve(job["init"][0], [*job["init"], *job["argv"]], job["environment"])


def main() -> None:
    with open(int(sys.argv[1]), "rb") as file:
        job = marshal.load(file)
    status = job["status"]
    os.umask(0o022)
    os.set_inheritable(status, False)
    try:
        job["in_user_namespace"] = os.geteuid() != 0
        if job["control_group"] is not None:
            enter_limits(job["control_group"])
        if job["network"] is not None and job["join"] is None:
            enter_network(job["network"])
        if job["join"] is not None:
            join_namespaces(job["join"], job["network"] is not None)
            continue_as_child(0, status)
        elif job["steps"] is not None:
            enter_namespaces(job)
            continue_as_child(CLONE_NEWPID, status)
            lay_out_files(job)
        else:
            os.write(status, f"pid {os.getpid()}\n".encode())
        drop_privileges(job)
        # Fails with EPIPE if the supervisor has ended before the death signal was set.
        os.write(status, b"ready\n")
        become_program(job)
    except (StepFailed, OSError) as error:
        if not isinstance(error, BrokenPipeError):
            os.write(status, f"error {error}\n".encode())
        os._exit(127)


main()
