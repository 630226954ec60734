import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from w2vb_ray.embed import page

CHROMIUM = shutil.which("chromium")
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]


def report(**changes):
    """What `report.json` holds of a run with all there is to show."""
    return {
        "run_id": "20260102T030405Z-abcd0123",
        "status": "done",
        "exit_code": 0,
        "started": "2026-01-02T03:04:05+00:00",
        "wall_s": 4000.0,
        "audio_hours_per_hour": 90.0,
        "checkpoint": "facebook/w2v-bert-2.0",
        "trained": True,
        "precision": "bf16",
        "device": "cuda",
        "num_encoders": 2,
        "source": "s3://corpus/audio",
        "sink": "s3://tables",
        "input": 1_000_003,
        "embedded": 1_000_000,
        "rejected": 3,
        "unchanged": 0,
        "known_rejects": 0,
        "replaced": 0,
        "audio_hours": 100.0,
        "padding_waste": 0.021,
        "steady_s": 3600.0,
        "stages": {"read_s": 700.0, "encode_s": 7000.0, "write_s": 70.0, "commit_s": 7.0},
        "lengths": {"edges_s": [1.0, 2.0, 5.0], "utterances": [0, 250_000, 750_000, 0]},
        "timeline": [[1800.0, 80.0], [3600.0, 100.0]],
        "reasons": {"empty": 2, "truncated": 1},
        "retries": {"worker_deaths": 4},
        "languages": {
            "deu": {"embedded": 600_000, "audio_hours": 60.0, "rejected": {"empty": 2, "truncated": 1}},
            "swh": {"embedded": 400_000, "audio_hours": 40.0, "rejected": {}},
        },
        "versions": {"w2vb_ray": "0.1.0", "ray": "2.60.0"},
        **changes,
    }


class Text(HTMLParser):
    """Texts and tags of a page; every tag that opens must close."""

    def __init__(self, html):
        super().__init__()
        self.texts, self.open, self.attributes = [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        if tag not in ("meta", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag != "path":
            assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.append(" ".join(data.split()))


def test_it_shows_what_the_report_says():
    texts = Text(page.render(report())).texts
    for text in ("1,000,000", "of 1,000,003 utterances", "2.1%", "100", "deu", "empty 2, truncated 1", "worker deaths"):
        assert text in texts
    assert "audio-hours per hour, 90 with start-up" in texts
    assert "audio-hours per hour, at most 160" in texts  # 80 hours in the first half hour
    assert texts.index("deu") < texts.index("swh")
    assert [text for text in texts if re.fullmatch(r"\d+–\d+", text)] == ["1–2", "2–5"], "empty ends are left out"
    assert "UNTRAINED" not in " ".join(texts)
    assert "UNTRAINED" in " ".join(Text(page.render(report(trained=False))).texts)


def test_it_needs_nothing_from_elsewhere():
    html = page.render(report())
    assert [value for name, value in Text(html).attributes if name in ("src", "href")] == []
    assert "@import" not in html
    assert "url(" not in html
    assert "<script" not in html


def test_names_are_text_and_never_markup():
    hostile = {"<script>alert(1)</script>": {"embedded": 1, "audio_hours": 1.0, "rejected": {}}}
    html = page.render(report(languages=hostile, source='"><img src=x>'))
    assert "<script>" not in html
    assert "<img" not in html


def test_a_run_without_anything_to_show():
    nothing = {
        "embedded": 0,
        "audio_hours": 0.0,
        "audio_hours_per_hour": 0.0,
        "steady_s": 0.0,
        "stages": dict.fromkeys(("read_s", "encode_s", "write_s", "commit_s"), 0.0),
        "lengths": {"edges_s": [1.0], "utterances": [0, 0]},
        "timeline": [],
        "reasons": {},
        "languages": {},
    }
    texts = Text(page.render(report(**nothing))).texts
    assert texts.count("nothing was embedded") == 2
    assert "this run touched none" in texts


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.25, "0.2 s"), (9.99, "10.0 s"), (61, "0:01:01"), (36_000, "10:00:00")]
)
def test_clock(seconds, shown):
    assert page.clock(seconds) == shown


@pytest.mark.parametrize(("count", "shown"), [(0, ""), (999, "999"), (12_345, "12k"), (3_000_000, "3M")])
def test_short(count, shown):
    assert page.short(count) == shown


def chromium(tmp_path, *arguments):
    """Standard output of Chromium, which writes its complaints elsewhere."""
    command = [CHROMIUM, *QUIET, "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'user'}"]
    return subprocess.run([*command, *arguments], capture_output=True, check=True, timeout=120, text=True).stdout


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_without_sideways_scrolling(tmp_path, scheme):
    """A script put behind the page, which has none itself, says what the browser made of it."""
    probe = """<pre id="found"></pre><script>
      const bars = [...document.querySelectorAll("i")].filter(bar => bar.style.width || bar.style.height);
      document.getElementById("found").textContent = JSON.stringify({
        background: getComputedStyle(document.body).backgroundColor,
        overflow: document.documentElement.scrollWidth - innerWidth,
        drawn: bars.filter(bar => bar.offsetWidth && bar.offsetHeight).length, bars: bars.length,
        chart: document.querySelector("svg path.edge").getBoundingClientRect().width });
    </script>"""
    file = tmp_path / "page.html"
    file.write_text(page.render(report()) + probe, encoding="utf-8")
    preferred = f"--blink-settings=preferredColorScheme={int(scheme == 'light')}"
    dom = chromium(tmp_path, preferred, "--window-size=900,1400", "--dump-dom", f"file://{file}")
    found = json.loads(re.search(r'<pre id="found">(.*?)</pre>', dom)[1])
    assert found["overflow"] <= 0
    assert found["drawn"] == found["bars"] == 11, "even 3 rejects of 600,003 are seen"
    assert found["chart"] > 300
    brightness = sum(int(part) for part in re.findall(r"\d+", found["background"])[:3])
    assert brightness < 120 if scheme == "dark" else brightness > 700
