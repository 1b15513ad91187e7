"""The AWS clients: lost connections are reported, and time limits end waits."""

from __future__ import annotations

import http.server
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from alva.aws import LOCAL_ATTEMPTS, Aws, Poll, Target, explained
from alva.errors import AlvaError, TimedOut
from tests.ports import free_port


class Refusing(http.server.BaseHTTPRequestHandler):
    """A server that closes the first connection without a response, and then returns an error of AWS to every call."""

    calls = 0

    def do_POST(self) -> None:
        type(self).calls += 1
        if type(self).calls == 1:
            self.close_connection = True
            return
        body = b'{"__type":"ParameterNotFound"}'
        self.send_response(400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.usefixtures("immediate_retries")
def test_lost_endpoint_is_reported_once_before_the_call_fails() -> None:
    port = free_port()
    said: list[str] = []
    aws = Aws(Target.local(f"http://127.0.0.1:{port}"), report=said.append)
    attempts: list[int] = []
    aws.ssm.meta.events.register("before-send", lambda **_: attempts.append(len(said)))
    for _ in range(2):
        with pytest.raises(AlvaError, match="no connection to AWS's endpoint"), explained("read a parameter"):
            aws.ssm.get_parameter(Name="x")
    assert len(said) == 1
    assert f"127.0.0.1:{port}" in said[0]
    assert said[0].endswith(": trying again")
    assert attempts == [0] + [1] * (2 * LOCAL_ATTEMPTS - 1), "it is reported after the first attempt"


def test_endpoint_that_answers_again_is_reported() -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        said: list[str] = []
        url = f"http://127.0.0.1:{server.server_address[1]}"
        aws = Aws(Target.local(url), report=said.append)
        for _ in range(2):
            with pytest.raises(aws.ssm.exceptions.ParameterNotFound):
                aws.ssm.get_parameter(Name="x")
        server.shutdown()
    assert [line.rpartition(":")[2].strip() for line in said[:1]] == ["trying again"]
    assert said[1:] == [f"{url} answers again"]


def test_limit_ends_all_limited_waits_in_all_threads() -> None:
    poll = Poll(shortest_seconds=0.01, longest_seconds=0.01)
    looks = iter([None, None, "there"])
    with poll.limited(0), ThreadPoolExecutor(1) as pool:
        with pytest.raises(TimedOut, match="cannot wait longer for the moon: the time limit of 0 s has passed"):
            pool.submit(poll.until, lambda: None, timeout_seconds=600, what="the moon").result()
        found = poll.until(lambda: next(looks), timeout_seconds=600, what="the end", is_limited=False)
    assert found == "there"
    assert not poll.limit.has_passed, "after the block there is no limit"
