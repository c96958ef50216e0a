"""Published weights are at hand where the Hub answers, by whatever way its library takes there."""

import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

ASK = "from classmates.networks.building.published import out_of_reach; print(out_of_reach('resnet18'))"


class Answering(BaseHTTPRequestHandler):
    """Answers anything: as the Hub, or as a proxy on the way there."""

    def do_HEAD(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def place():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def asked(cache, **settings):
    """Return what another process is told, which has these settings of the Hub alone."""
    drop = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "hf_endpoint", "hf_hub_offline")
    kept = {name: value for name, value in os.environ.items() if name.lower() not in drop}
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env=kept | {"HF_HUB_CACHE": str(cache)} | settings,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip() or done.stderr


def test_a_mirror_answers_at_any_port(place, tmp_path):
    assert asked(tmp_path, HF_ENDPOINT=place) == "None"


def test_a_proxy_answers_for_the_hub(place, tmp_path):
    assert asked(tmp_path, HF_ENDPOINT="http://hub.invalid", HTTP_PROXY=place) == "None"


def test_a_hub_that_does_not_answer_is_told(place, tmp_path):
    told = asked(tmp_path, HF_ENDPOINT="http://hub.invalid")
    assert told.startswith("http://hub.invalid does not answer (")
    assert asked(tmp_path, HF_ENDPOINT=place, HF_HUB_OFFLINE="1").startswith("HF_HUB_OFFLINE is set")
