"""`redact`, as a process on real stores and cassettes."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from making import records_of
from samples import (
    CHAT,
    called,
    event,
    exchange_id,
    meibel_exchange,
    said,
    store_with,
)
from support import run_command

from sse_recorder.exchange import Op, Opening, Record, RequestHead
from sse_recorder.store import cassette
from sse_recorder.store.store import Store

KEY = "sk-ant-api03-Zq8Xw2Lr5Tn9Bv4Kc7Mj1Hd6"
PRIVATE = KEY.removeprefix("sk-ant-")
PASSWORD = "hunter2SECRET"  # noqa: S105 - stands for any


def leaky(number: int = 1) -> list[Record]:
    """Return an exchange that was recorded without redaction."""
    records = meibel_exchange(
        [
            said(20, "Hi"),
            called(30, "t1", "login", api_key=PASSWORD),
            event(40, "x", {"delta": KEY[:12]}),
            event(50, "x", {"delta": KEY[12:]}),
        ],
        number=number,
        path=f"{CHAT}?api_key={PASSWORD}",
    )
    body = json.dumps({"message": f"use {KEY}"}).encode()
    return [r._replace(payload=body) if r.op is Op.REQUEST_DATA else r for r in records]


def cassette_of(folder: Path, *exchanges: list[Record]) -> Path:
    """Write a cassette, and return where it is."""
    text = ""
    with Store.open(store_with(folder, exchanges)) as opened:
        for exchange in opened.exchanges():
            text += cassette.dumps(exchange, opened.chunks(exchange.exchange_id))
    path = folder / "chat.sse.jsonl"
    path.write_text(text, encoding="utf-8")
    return path


def rows(folder: Path, *args: str, code: int = 1) -> list[dict[str, Any]]:
    """Return what a dry run prints, and check its exit code."""
    done = run_command("redact", "--dry-run", *args, "--format", "json", cwd=folder)
    assert done.returncode == code, done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    assert PRIVATE not in done.stdout + done.stderr
    return list(json.loads(done.stdout))


def test_a_dry_run_tells_what_is_secret_and_where(tmp_path: Path) -> None:
    """Each secret has a row, and the rows have no secret; the exit code is 1."""
    cassette_of(tmp_path, leaky())
    found = rows(tmp_path, "chat.sse.jsonl")
    assert {row["exchange_id"] for row in found} == {exchange_id(1)}
    assert [(row["where"], row["rule"]) for row in found] == [
        ("url", "url"),
        ("request body", "anthropic-key"),
        ("frame 1", "field api_key"),
        ("frame 2", "anthropic-key"),
        ("frame 3", "anthropic-key"),
    ]
    assert found[2]["preview"].endswith("*" * len(PASSWORD))
    # The store says the same.
    assert [row["where"] for row in rows(tmp_path)] == [row["where"] for row in found]


def test_the_table_says_what_the_rows_say(tmp_path: Path) -> None:
    """People see the end of the id, and never the secret."""
    cassette_of(tmp_path, leaky())
    done = run_command("redact", "--dry-run", "chat.sse.jsonl", cwd=tmp_path)
    assert done.returncode == 1
    assert exchange_id(1)[-8:] in done.stdout
    assert "field api_key" in done.stdout
    assert PASSWORD not in done.stdout


def test_a_cassette_is_masked_in_its_place(tmp_path: Path) -> None:
    """Secrets go, all else stays, byte for byte, as do the file's permissions."""
    path = cassette_of(tmp_path, leaky(), meibel_exchange([said(20, "two")], number=2))
    path.chmod(0o640)
    before = path.read_text(encoding="utf-8")
    done = run_command("redact", path.name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    after = path.read_text(encoding="utf-8")
    assert len(after) == len(before) - len(PASSWORD) + len("[redacted]")
    assert PASSWORD not in after
    assert PRIVATE not in after
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name, "recordings"]
    assert after.splitlines()[6:] == before.splitlines()[6:]
    assert rows(tmp_path, path.name, code=0) == []


def test_what_has_no_secret_is_not_touched(tmp_path: Path) -> None:
    """A clean cassette is not written again, and the check passes."""
    path = cassette_of(tmp_path, meibel_exchange([said(20, "one")]))
    before = path.stat()
    done = run_command("redact", path.name, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert "Nothing is secret" in done.stderr
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert path.stat().st_ino == before.st_ino


def test_a_store_is_never_rewritten(tmp_path: Path) -> None:
    """What to do instead is said, before any cassette is changed."""
    path = cassette_of(tmp_path, leaky())
    before = path.read_bytes()
    done = run_command("redact", path.name, "recordings", cwd=tmp_path)
    assert done.returncode == 2
    assert "sse-recorder export --store recordings" in done.stderr
    assert path.read_bytes() == before


def test_rules_are_added_and_taken_out(tmp_path: Path) -> None:
    """Names and patterns of the user's own count, in the command as in the recorder."""
    cassette_of(tmp_path, meibel_exchange([event(20, "x", {"city": "Oslo-123"})]))
    assert rows(tmp_path, "chat.sse.jsonl", code=0) == []
    named = rows(tmp_path, "chat.sse.jsonl", "--redact", "City")
    assert [row["rule"] for row in named] == ["field city"]
    matched = rows(tmp_path, "chat.sse.jsonl", "--redact-pattern", "Oslo-([0-9]+)")
    assert [row["preview"][-8:] for row in matched] == ["Oslo-***"]
    kept = ("--redact", "city", "--redact-keep", "city")
    assert rows(tmp_path, "chat.sse.jsonl", *kept, code=0) == []


def test_wrong_usage_is_told_in_a_line(tmp_path: Path) -> None:
    """A pattern that is none, and a source that is not there."""
    wrong = run_command("redact", "--dry-run", "--redact-pattern", "(", cwd=tmp_path)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    missing = run_command("redact", "--dry-run", "no.sse.jsonl", cwd=tmp_path)
    assert (missing.returncode, missing.stderr.count("\n")) == (3, 1)


CODED = (("Content-Type", "text/event-stream"), ("Content-Encoding", "gzip"))


def coded_exchange(number: int, *texts: str) -> list[Record]:
    """Return an exchange whose stream is content-coded, with an event for each text."""
    events = "".join(f"data: {json.dumps({'delta': text})}\n\n" for text in texts)
    wire = gzip.compress(events.encode())
    return records_of([wire[:30], wire[30:]], number=number, headers=CODED)


def test_secrets_in_coded_bodies_are_found_and_stay(tmp_path: Path) -> None:
    """They are told with their places, and that they cannot be masked."""
    spread = coded_exchange(2, "It is ", KEY[:12], KEY[12:], " Bye")
    path = cassette_of(tmp_path, leaky(), spread, coded_exchange(3, "Hello"))
    found = rows(tmp_path, path.name)
    ours = [row for row in found if row["exchange_id"] == exchange_id(2)]
    assert [(row["where"], row["rule"]) for row in ours] == [
        ("frame 1", "anthropic-key"),
        ("frame 2", "anthropic-key"),
    ]
    assert ours[1]["preview"].endswith('"delta": "' + "*" * len(KEY[12:]))
    before = path.read_text(encoding="utf-8").splitlines()
    done = run_command("redact", path.name, cwd=tmp_path)
    assert done.returncode == 1
    assert f"Masked {len(found) - 2} secrets in {path.name}." in done.stderr
    assert done.stderr.count("cannot be masked") == 1
    assert f"the compressed body of {exchange_id(2)} has secrets in it" in done.stderr
    # All else is masked, and of the coded exchanges not a byte is another one.
    assert PASSWORD not in (after := path.read_text(encoding="utf-8"))
    assert after.splitlines()[-8:] == before[-8:]
    assert rows(tmp_path, path.name) == ours
    with Store.open(path) as store:
        assert {e.exchange_id for e in store.exchanges()} == set(
            map(exchange_id, (1, 2, 3))
        )


def test_a_cassette_with_nothing_to_mask_is_not_touched(tmp_path: Path) -> None:
    """Where all that is secret cannot be masked, the file is as it was."""
    path = cassette_of(tmp_path, coded_exchange(1, KEY))
    before = path.stat()
    done = run_command("redact", path.name, cwd=tmp_path)
    assert done.returncode == 1
    assert "record it again uncoded (Accept-Encoding: identity)" in done.stderr
    assert "Masked" not in done.stderr
    assert path.stat().st_ino == before.st_ino


def test_a_coded_request_is_looked_through_too(tmp_path: Path) -> None:
    """What a request sends compressed is no safer; what is damaged tells nothing."""
    headers = (("Content-Type", "application/json"), ("Content-Encoding", "gzip"))
    body = gzip.compress(json.dumps({"api_key": PASSWORD}).encode())
    sent = []
    for number, wire in ((1, body), (2, b"damaged")):
        records = meibel_exchange([said(20, "Hi")], number=number)
        opening = records[0].payload
        assert isinstance(opening, Opening)
        opening = replace(opening, request=RequestHead("POST", "/", headers))
        sent.append(
            [
                records[0]._replace(payload=opening),
                records[1]._replace(payload=wire),
                *records[2:],
            ]
        )
    path = cassette_of(tmp_path, *sent)
    (row,) = rows(tmp_path, path.name)
    assert (row["where"], row["rule"]) == ("request body", "field api_key")
    assert row["exchange_id"] == exchange_id(1)


def test_a_cassette_with_an_id_twice_is_not_masked(tmp_path: Path) -> None:
    """Whose secrets those are is not known; the message says what to do."""
    path = cassette_of(tmp_path, leaky())
    path.write_bytes(path.read_bytes() * 2)
    before = path.read_bytes()
    done = run_command("redact", path.name, cwd=tmp_path)
    assert done.returncode == 3
    assert "the same id is in line 1; take one of these exchanges out" in done.stderr
    assert path.read_bytes() == before
