"""The console in Chromium: the first view, and 40 services with 100,000 log lines.

    .venv/bin/python benchmarks/console.py [--address ADDRESS] [--json]

It measures the first view in a local region in a clone of HEAD, or at the address that a running `./alva open` printed.
Times start at the navigation and exclude Chromium's own start. They end at the first paint (first-contentful-paint) and
when the picture has its tasks. The 40 services and their lines are those of `tests/console/large_environment.py`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from figures import alva, clone, isolated, proportional_set_kilobytes, share_installation
from playwright.sync_api import Browser, Page, sync_playwright

PROJECT = Path(__file__).resolve().parents[1]
NAVIGATIONS = 7
SCROLLS = 120
SETTLE_SECONDS = 2.0
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--enable-precise-memory-info")
PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
# Runs in the page before its own scripts: waiting from outside would add the driver's own time.
NOTE_THE_PICTURE = """new MutationObserver((_, observer) => {
  if (!document.querySelector(".part .task")) return;
  observer.disconnect();
  requestAnimationFrame(() => setTimeout(() => { window.pictureAt = performance.now(); }));
}).observe(document, { childList: true, subtree: true });"""
SCROLL = """async (steps) => {
  const box = document.getElementById("log-lines"), times = [];
  let before = performance.now();
  for (let step = 0; step < steps; step += 1) {
    box.scrollTop = (box.scrollHeight * ((step * 37) % steps)) / steps;
    await new Promise(requestAnimationFrame);
    times.push(performance.now() - before);
    before = performance.now();
  }
  return times;
}"""
SELECT = """async (name) => {
  const before = performance.now();
  document.querySelector(`.part[data-part="${name}"]`).dispatchEvent(new MouseEvent("click", { bubbles: true }));
  await new Promise(requestAnimationFrame);
  return performance.now() - before;
}"""

Figures = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--address", help="of a running ./alva open")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    chromium = (
        shutil.which("chromium-headless-shell")
        or shutil.which("chromium")
        or sys.exit("cannot measure: Chromium is not installed")
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        if arguments.address:
            figures = first_view(browser, arguments.address)
        else:
            with open_in_a_clone() as (address, seconds):
                figures = {"alva open prints its address, s": seconds, **first_view(browser, address)}
        figures |= many(browser)
        browser.close()
    print(json.dumps(figures, indent=2) if arguments.json else as_table(figures))


@contextmanager
def open_in_a_clone() -> Iterator[tuple[str, float]]:
    """Run `./alva open` with a local region: its address, and the seconds until it printed it."""
    with tempfile.TemporaryDirectory(prefix="alva-console-", ignore_cleanup_errors=True) as folder:
        project = Path(folder) / "alva"
        clone(project)
        share_installation(project)
        environment = isolated(project)
        try:
            alva(project, environment, "up")
            started = time.monotonic()
            process = subprocess.Popen(
                [project / "alva", "open", "--no-browser", "--json"],
                cwd=project, env=environment, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            assert process.stdout is not None  # noqa: S101
            address = json.loads(process.stdout.readline())["address"]
            seconds = time.monotonic() - started
            time.sleep(3)  # About the time that a browser takes to start.
            yield address, seconds
            process.send_signal(signal.SIGINT)
            process.wait(30)
        finally:
            alva(project, environment, "down")


def first_view(browser: Browser, address: str) -> Figures:
    """Navigate several times, each time in a new profile without a cache."""
    paints, pictures = [], []
    for _ in range(NAVIGATIONS):
        context = browser.new_context()
        page = context.new_page()
        page.add_init_script(NOTE_THE_PICTURE)
        page.goto(address, wait_until="commit")
        time.sleep(SETTLE_SECONDS)  # Whoever waits for an element takes processor time from the page.
        page.wait_for_selector(".part .task", timeout=60_000)
        page.wait_for_timeout(200)
        pictures.append(float(page.evaluate("window.pictureAt")))
        paints.append(float(page.evaluate(PAINT)))
        context.close()
    return {
        "first paint, ms (median)": statistics.median(paints),
        "first paint, ms (longest)": max(paints),
        "picture with tasks, ms (median)": statistics.median(pictures),
        "picture with tasks, ms (longest)": max(pictures),
    }


def many(browser: Browser) -> Figures:
    """40 services and 100,000 log lines."""
    # In a process of its own: Chromium's driver is not the console's memory.
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, cwd=PROJECT
    )
    assert server.stdout is not None  # noqa: S101
    assert server.stdin is not None  # noqa: S101
    try:
        return _many(browser, server.stdout.readline().strip(), server.pid)
    finally:
        server.stdin.close()
        server.wait(60)


def _many(browser: Browser, address: str, pid: int) -> Figures:
    # The page's Content-Security-Policy would refuse the expressions that are waited for below.
    page = browser.new_page(bypass_csp=True)
    page.set_default_timeout(180_000)
    page.goto(address)
    page.wait_for_function("document.querySelectorAll('#services tbody tr').length === 40")
    page.wait_for_selector(".part .task")
    before = proportional_set_kilobytes(pid) / 1024
    heap = _heap(page)
    selecting = [float(page.evaluate(SELECT, f"more-{number}")) for number in range(20)]
    page.evaluate("location.hash = '#logs'")
    reading = _seconds(lambda: page.wait_for_function(
        "/^\\d+ of (99|100)\\d{3} lines/.test(document.getElementById('log-state').textContent)"
    ))  # fmt: skip
    frames = [float(each) for each in page.evaluate(SCROLL, SCROLLS)]
    page.wait_for_timeout(20_000)  # looks and log rounds go on
    figures = {
        "40 services, a part selected until painted, ms (median)": statistics.median(selecting),
        "40 services, a part selected until painted, ms (longest)": max(selecting),
        "100,000 lines read, s": reading,
        "a jump in 100,000 lines until painted, ms (median)": statistics.median(frames),
        "a jump in 100,000 lines until painted, ms (longest)": max(frames),
        "elements of the page": float(page.evaluate("document.querySelectorAll('*').length")),
        "JavaScript heap before and": heap,
        "after the lines, MB": _heap(page),
        "console's process before and": before,
        "after the lines, MB ": proportional_set_kilobytes(pid) / 1024,
    }
    page.close()
    return figures


def _heap(page: Page) -> float:
    return float(page.evaluate("performance.memory.usedJSHeapSize")) / 2**20


def _seconds(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def serve() -> None:
    """The console of the large environment, until standard input ends."""
    sys.path[:0] = [str(PROJECT), str(PROJECT / "infrastructure")]
    from tests.console.large_environment import LargeEnvironment, console_of, synthesise

    with tempfile.TemporaryDirectory(prefix="alva-large-") as folder:
        manifest, values, templates = synthesise(Path(folder))
        with console_of(LargeEnvironment(manifest, templates), manifest, values) as console:
            print(console.address, flush=True)
            waiting = threading.Thread(target=sys.stdin.read)
            waiting.start()
            waiting.join()


def as_table(figures: Figures) -> str:
    return "\n".join(f"{name:60}  {value:8.1f}" for name, value in figures.items())


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["--serve"] else main()
