"""What the command line makes recorders of."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sse_recorder.cli.settings import Settings

PAIRS = st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2)
SETTINGS = st.builds(
    Settings,
    upstream=st.none() | st.text(max_size=5),
    routes=PAIRS,
    tags=PAIRS,
    store=st.text(max_size=5),
    on_write_error=st.sampled_from(["go-on", "refuse"]),
)


@given(SETTINGS)
def test_they_come_to_a_worker_as_one_line(settings: Settings) -> None:
    """Whatever is in them."""
    line = settings.dumps()
    assert "\n" not in line
    assert Settings.loads(line) == settings


def test_a_recorder_is_made_of_them(tmp_path: Path) -> None:
    """With its routes, its tags, and what becomes of requests."""
    settings = Settings(
        upstream="http://a", routes={"/b": "http://b/v1"}, store=str(tmp_path / "store")
    )
    assert settings.names == "http://a, http://b/v1 at /b"
    recorder = settings.recorder("127.0.0.1", 0)
    try:
        assert recorder.routes.prefixes == ["/b"]
    finally:
        recorder.writer.close()
