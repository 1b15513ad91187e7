"""A process in a sandbox sees the image and nothing of this machine, as root and as an ordinary user."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from alva.errors import SandboxFailed
from alva.region.names import Names
from alva.region.sandbox import SandboxSpec


def make_layer(folder: Path, files: dict[str, str]) -> Path:
    for path, content in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return folder


def test_later_layers_override_earlier_ones(workbench: Any, tmp_path: Path) -> None:
    below = make_layer(tmp_path / "below", {"app/a": "below", "app/both": "below", "app/deep/x": "x"})
    above = make_layer(tmp_path / "above", {"app/both": "above", "app/deep/y": "y", "etc/motd": "hello"})

    async def test(bench: Any) -> None:
        sandbox = SandboxSpec(layers=(below, above), working_directory="/app")
        script = "cat a both deep/x deep/y /etc/motd /etc/host.conf; pwd"
        output = await bench.output("sh", "-c", script, sandbox=sandbox)
        assert output == "belowabovexyhellomulti on\n/app"

    workbench(test)


def test_layer_that_overlaps_the_base_keeps_the_base(workbench: Any, tmp_path: Path) -> None:
    layer = make_layer(tmp_path / "layer", {"bin/mine": "#!/bin/sh\necho mine\n"})
    (layer / "bin/mine").chmod(0o755)

    async def test(bench: Any) -> None:
        output = await bench.output(
            "sh", "-c", "mine; /usr/bin/mine; ls -d /usr/bin/env", sandbox=SandboxSpec(layers=(layer,))
        )
        assert output == "mine\nmine\n/usr/bin/env"

    workbench(test)


def test_nothing_of_this_machine_is_visible_but_the_base(workbench: Any, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")

    async def test(bench: Any) -> None:
        seen = await bench.output(
            "sh", "-c", f"ls /; ls /home /srv /var/lib {secret} 2>/dev/null; ls /etc/shadow; true"
        )
        assert set(seen.split()) <= {
            *(
                "bin",
                "dev",
                "etc",
                "lib",
                "lib32",
                "lib64",
                "libx32",
                "proc",
                "root",
                "run",
                "sbin",
                "tmp",
                "usr",
                "var",
            ),
            *("ls:", "cannot", "access", "'/etc/shadow':", "No", "such", "file", "or", "directory"),
        }

    workbench(test)


def test_root_is_read_only_and_tmp_is_not(workbench: Any, tmp_path: Path) -> None:
    layer = make_layer(tmp_path / "layer", {"app/code.py": "1"})

    async def test(bench: Any) -> None:
        for path in ("/app/new", "/new", "/etc/new", "/usr/new", "/usr/local/bin/new"):
            process = await bench.start("touch", path, sandbox=SandboxSpec(layers=(layer,)))
            assert (await process.wait()).code == 1, path
        await bench.output("sh", "-c", "touch /tmp/new /var/tmp/new /dev/shm/new")

    workbench(test)


def test_writable_root_accepts_new_files_and_the_image_is_unchanged(workbench: Any, tmp_path: Path) -> None:
    layer = make_layer(tmp_path / "layer", {"app/code.py": "1"})

    async def test(bench: Any) -> None:
        sandbox = SandboxSpec(layers=(layer,), read_only_root=False)
        await bench.output("sh", "-c", "mkdir /data && touch /data/new && ! touch /app/new", sandbox=sandbox, user=None)

    workbench(test)
    assert [entry.name for entry in layer.iterdir()] == ["app"]


def test_process_is_number_one_and_sees_no_other(workbench: Any) -> None:
    async def test(bench: Any) -> None:
        script = "import os; print(os.getpid(), [name for name in os.listdir('/proc') if name.isdigit()])"
        assert await bench.output("python", "-c", script) == "1 ['1']"

    workbench(test)


ORPHAN = """
import os, pathlib, time
if os.fork() == 0:
    if os.fork() == 0:
        os._exit(0)  # its parent is gone, or soon will be
    os._exit(0)
os.wait()

def states():
    for folder in pathlib.Path("/proc").iterdir():
        if folder.name.isdigit() and folder.name not in ("1", str(os.getpid())):
            try:
                yield (folder / "stat").read_text().rpartition(") ")[2][0]
            except OSError:
                pass  # it ended meanwhile

deadline = time.monotonic() + 30
while (seen := sorted(states())) != EXPECTED and time.monotonic() < deadline:
    time.sleep(0.02)
print(os.getpid() == 1, seen)
"""


@pytest.mark.parametrize(("has_init", "left"), [(False, ["Z"]), (True, [])])
def test_init_reaps_orphans_and_without_an_init_they_remain_zombies(
    workbench: Any, has_init: bool, left: list[str]
) -> None:
    async def test(bench: Any) -> None:
        script = ORPHAN.replace("EXPECTED", repr(left))
        output = await bench.output("python", "-c", script, sandbox=SandboxSpec(layers=(), has_init=has_init))
        assert output == f"{not has_init} {left}"

    workbench(test)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("raise SystemExit(7)", 7),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", 143),
    ],
)
def test_init_ends_as_its_program_does(workbench: Any, script: str, code: int) -> None:
    async def test(bench: Any) -> None:
        process = await bench.start("python", "-c", script, sandbox=SandboxSpec(layers=(), has_init=True))
        assert (await process.wait()).code == code

    workbench(test)


def test_process_has_its_user_and_cannot_gain_privileges(workbench: Any) -> None:
    async def test(bench: Any) -> None:
        output = await bench.output(
            "sh", "-c", "id -u; id -g; id -un; grep -E 'CapEff|NoNewPrivs|Groups' /proc/self/status"
        )
        uid, gid, name, *status = output.split("\n")
        assert (uid, gid, name) == ("10001", "10001", "app")
        assert dict(line.split(":", 1) for line in status)["CapEff"].strip() == "0" * 16
        assert dict(line.split(":", 1) for line in status)["NoNewPrivs"].strip() == "1"

    workbench(test)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_in_a_sandbox_cannot_mount(workbench: Any) -> None:
    async def test(bench: Any) -> None:
        process = await bench.start("mount", "-t", "tmpfs", "none", "/dev/shm", user=None)  # noqa: S108
        assert (await process.wait()).code != 0

    workbench(test)


def test_bound_file_wins_over_the_image_and_over_the_base(workbench: Any, tmp_path: Path) -> None:
    layer = make_layer(tmp_path / "layer", {"app/certificates/bundle.pem": "image"})
    bundle = tmp_path / "region.pem"
    bundle.write_text("region")

    async def test(bench: Any) -> None:
        inside = ("/app/certificates/bundle.pem", "/etc/ssl/certs/ca-certificates.crt", "/not/there/before.pem")
        sandbox = SandboxSpec(layers=(layer,), files=dict.fromkeys(inside, bundle))
        assert await bench.output("cat", *inside, sandbox=sandbox) == "region" * 3

    workbench(test)
    assert (layer / "app/certificates/bundle.pem").read_text() == "image"


def test_writable_folder_is_shared_with_the_machine(workbench: Any, tmp_path: Path) -> None:
    folder = tmp_path / "outside"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)

    async def test(bench: Any) -> None:
        await bench.output(
            "sh", "-c", "echo hello > /data/file", sandbox=SandboxSpec(layers=(), writable={"/data": folder})
        )

    workbench(test)
    assert (folder / "file").read_text() == "hello\n"


def test_name_that_is_published_later_resolves_in_a_running_process(workbench: Any, tmp_path: Path) -> None:
    names = Names(tmp_path / "names")
    resolve = (
        "import socket, time, os\n"
        "def addresses(name):\n"
        "    try: return sorted({i[4][0] for i in socket.getaddrinfo(name, 80, socket.AF_INET)})\n"
        "    except socket.gaierror: return []\n"
        "deadline = time.monotonic() + 20\n"
        "print('before', addresses('api.alva.test'), flush=True)\n"
        "while not addresses('api.alva.test') and time.monotonic() < deadline: time.sleep(0.05)\n"
        "print('after', addresses('api.alva.test'), flush=True)\n"
    )

    async def test(bench: Any) -> None:
        lines: list[str] = []
        sandbox = SandboxSpec(layers=(), hosts_folder=names.folder)

        def on_line(line: str) -> None:
            lines.append(line)
            if line.startswith("before"):
                names.publish("api.alva.test", ["127.20.10.4", "127.20.11.4"])

        process = await bench.start("python", "-c", resolve, sandbox=sandbox, on_line=on_line)
        assert (await process.wait()).code == 0
        assert lines == ["before []", "after ['127.20.10.4', '127.20.11.4']"]

    workbench(test)


def test_python_in_a_sandbox_is_the_requested_version_and_verifies_certificates(workbench: Any) -> None:
    async def test(bench: Any) -> None:
        script = "import sys, ssl, sqlite3; print(sys.version_info[:2], ssl.create_default_context().verify_mode)"
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        sandbox = SandboxSpec(layers=(), base=f"python:{version}")
        expected = f"{sys.version_info[:2]} 2"
        assert await bench.output("python", "-c", script, sandbox=sandbox) == expected
        assert await bench.output(f"python{version}", "-c", script, sandbox=sandbox) == expected

    workbench(test)


def test_node_in_a_sandbox_is_the_pinned_one(workbench: Any) -> None:
    async def test(bench: Any) -> None:
        output = await bench.output(
            "sh", "-c", "command -v node; node --version", sandbox=SandboxSpec(layers=(), base="node")
        )
        assert output.startswith("/usr/local/bin/node\nv24.")

    workbench(test)


def test_unknown_program_is_named(workbench: Any) -> None:
    async def test(bench: Any) -> None:
        with pytest.raises(SandboxFailed, match=r'exec: "nope": executable file not found in \$PATH'):
            await bench.start("nope")
        assert bench.supervisor.processes == ()

    workbench(test)


def test_missing_layer_and_unknown_base_are_named(workbench: Any, tmp_path: Path) -> None:
    async def test(bench: Any) -> None:
        with pytest.raises(SandboxFailed, match="gone: No such file"):
            await bench.start("true", sandbox=SandboxSpec(layers=(tmp_path / "gone",)))
        with pytest.raises(SandboxFailed, match=r"no Python 2\.6"):
            await bench.start("true", sandbox=SandboxSpec(layers=(), base="python:2.6"))

    workbench(test)


def test_second_process_joins_the_view_of_the_first(workbench: Any, tmp_path: Path) -> None:
    layer = make_layer(tmp_path / "layer", {"app/file": "from the image"})

    async def test(bench: Any) -> None:
        sandbox = SandboxSpec(layers=(layer,), working_directory="/app")
        first = await bench.start("sh", "-c", "touch /tmp/mine; sleep 60", sandbox=sandbox)
        while await bench.output("sh", "-c", "ls /tmp", inside=first) != "mine":
            pass
        output = await bench.output("sh", "-c", "cat file; pwd; id -u; readlink /proc/1/exe", inside=first)
        assert output.startswith("from the image/app\n10001\n/usr/bin/")
        second = await bench.start("sleep", "60", inside=first)
        first.kill()
        assert (await second.wait()).code == 137, "the end of process 1 ends all others"

    workbench(test)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give up rights")
def test_root_without_the_permission_to_make_namespaces_gets_a_next_step() -> None:
    program = (
        "import asyncio\nfrom alva.errors import SandboxFailed\nfrom alva.region.sandbox import SandboxSpec\n"
        "from alva.region.supervisor import ProcessSpec, start_process\n"
        "spec = ProcessSpec(name='x', argv=('true',), environment={}, sandbox=SandboxSpec(layers=()))\n"
        "try: asyncio.run(start_process(spec))\nexcept SandboxFailed as error: print(error)\n"
    )
    result = subprocess.run(
        [shutil.which("setpriv") or "setpriv", "--bounding-set=-sys_admin", sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "cannot start x: enter a mount namespace: Operation not permitted" in result.stdout
    assert "--cap-add SYS_ADMIN" in result.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="without root, all other tests here do the same")
def test_all_tests_above_pass_without_root(request: pytest.FixtureRequest) -> None:
    """Run this file again as nobody, in user namespaces."""
    repository = Path(__file__).parents[3]
    site_packages = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    as_nobody = [shutil.which("setpriv") or "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    probe = (
        f"import os, sys, subprocess; os.listdir({str(site_packages)!r}); subprocess.check_call([sys.executable, '-V'])"
    )
    candidates = (sys.executable, shutil.which(version, path="/usr/bin:/usr/local/bin"))
    interpreter = next(
        (
            candidate
            for candidate in candidates
            if candidate and subprocess.run([*as_nobody, candidate, "-c", probe], capture_output=True).returncode == 0
        ),
        None,
    )
    if interpreter is None:
        pytest.skip("nobody may not run this Python, or not read its packages")
    home = Path(tempfile.mkdtemp(prefix="alva-nobody-"))  # pytest's own folders are closed to others
    request.addfinalizer(lambda: shutil.rmtree(home))
    os.chown(home, 65534, 65534)
    result = subprocess.run(
        [
            *as_nobody,
            *(interpreter, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "pytest_timeout"),
            f"--basetemp={home}/tmp",  # noqa: S108
            *(str(Path(__file__)), str(Path(__file__).with_name("test_supervisor.py"))),
        ],
        cwd=repository,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(home),
            "PYTHONPATH": f"{repository}/src:{site_packages}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
    assert " passed" in result.stdout
