"""URLs of a web server in a manifest, against a server on this machine."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from w2vb_ray.audio.fetch import fetch
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import AudioRejected
from w2vb_ray.source import build_inventory
from w2vb_ray.storage import filesystem


class _Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.server.asked.append(self.path)
        if self.path.startswith("/in/redirect"):
            self.send_response(302)
            self.send_header("Location", "/secret.wav")
        elif self.path.endswith(".wav"):
            self.send_response(200)
            self.send_header("Content-Length", "4")
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        else:
            self.send_response(404)
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        if self.path.endswith(".wav") and "redirect" not in self.path:
            self.wfile.write(b"1234")

    def log_message(self, *_args):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def _uri(server, path):
    return f"http://127.0.0.1:{server.server_port}/{path}"


def test_only_what_is_allowed_is_asked_for_and_redirects_are_not_followed(server, tmp_path):
    names = ["in/a.wav", "in/redirect.wav", "in/gone.mp3", "in/%2e%2e/secret.wav", "out/b.wav"]
    (tmp_path / "m.csv").write_text("path\n" + "\n".join(_uri(server, name) for name in names))
    section = SourceSection(uri=str(tmp_path / "m.csv"), allowed_uris=[_uri(server, "in/")], min_age_s=600)
    (batch,) = build_inventory(section).batches()
    rows = batch.table.to_pylist()
    assert [row["reason"] for row in rows] == [None, None, None, "forbidden", "forbidden"]
    assert [row["source_bytes"] for row in rows] == [4, None, None, None, None]
    assert rows[0]["source_version"] == "4-Thu, 01 Jan 2026 00:00:00 GMT"
    assert set(server.asked) == {f"/{name}" for name in names[:3]}


def test_many_urls_of_one_folder_are_asked_for_one_by_one(server, tmp_path):
    names = [f"in/{number}.wav" for number in range(60)]
    (tmp_path / "m.csv").write_text("path\n" + "\n".join(_uri(server, name) for name in names))
    section = SourceSection(uri=str(tmp_path / "m.csv"), allowed_uris=[_uri(server, "")])
    assert build_inventory(section).table["source_bytes"].to_pylist() == [4] * 60


def test_a_redirect_that_came_later_is_not_followed_either(server):
    uri = _uri(server, "in/redirect.wav")
    with pytest.raises(AudioRejected, match=r"redirects to /secret\.wav, which is not followed"):
        fetch(filesystem(uri), uri, expected_bytes=4, max_bytes=100)
    assert fetch(filesystem(uri, {"allow_redirects": True}), uri, expected_bytes=4, max_bytes=100) == b"1234"
