"""A store, opened for reading: its exchanges one by one, or all of it by SQL.

`Store.open` takes a folder of recordings or a cassette, and holds what was there at
that moment: the sealed segments, and the journals of recorders that are still writing.
`refresh` looks again.  Nothing is locked and nothing is written, so any number of
readers can look on while recorders write.

The SQL side is an in-memory DuckDB with one view a table, and with those of `views.sql`
once a query names one: to make a view is to look at every file.  It may neither install
nor load extensions, so it never reaches for the network by itself.

What of a journal cannot be read is left out, and logged; the rest is there.

Journals are read before the list of segments is: a segment that is sealed in between is
then seen twice, the other way round it could be missed.  Where one was, everything is
read again, because what was open in its journal goes on in one that was not listed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from threading import Lock, Thread
from typing import Any, Self

import duckdb
import pyarrow as pa

from sse_recorder.errors import StoreError, UsageError
from sse_recorder.exchange import Chunk, Exchange, Outcome, ToolCall
from sse_recorder.sse import rebuild
from sse_recorder.store import cassette, views
from sse_recorder.store.segment import (
    JournalReader,
    Layout,
    earlier_frames,
    segment_recorder,
)
from sse_recorder.tables import SCHEMAS, FrameRow, Rows

_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
# Timestamps with nanoseconds lack most of SQL's functions for time.  The files keep
# all nine digits; the view gives the six that every function understands.
_VIEWS = {
    "exchanges": (
        "SELECT * REPLACE (started_at::TIMESTAMPTZ AS started_at) FROM exchanges_ns"
    ),
    # A call that a later request answered has a row in the later segment as well.
    "tool_calls": (
        "SELECT * FROM tool_calls_ns AS one"
        " WHERE status <> 'unanswered' OR NOT EXISTS (FROM tool_calls_ns AS later"
        " WHERE later.timing = 'cross_request'"
        " AND later.exchange_id = one.exchange_id AND later.seq = one.seq)"
    ),
}
_SQL_HELP = (
    "mend the SQL: the tables are exchanges, chunks, frames and tool_calls, and"
    " `sse-recorder query --explain-schema` explains their columns"
)
# Request bodies that are read at a time.
_BODIES_BYTES = 16 << 20
# As objects, rows take ten times the memory that they take as columns.
_ROWS = 8_192
_FRAME_BYTES = "raw, layout, event, data, id, retry"

log = logging.getLogger("sse_recorder.store")


def source_and_id(name: str) -> tuple[str, str | None]:
    """Take `SOURCE#ID` apart, which names one exchange of a store or a cassette.

    The id is None where a whole source is named.
    """
    source, _, exchange_id = name.rpartition("#")
    return (name, None) if not source or Path(name).exists() else (source, exchange_id)


class Store:
    """What a folder of recordings, or a cassette, holds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files: dict[str, list[str]] = {}
        self._stamp: list[tuple[int, int]] = []
        """Which files those were."""
        self._live: dict[str, pa.Table] = {}
        self._damage: set[str] = set()
        """What was said of journals that cannot be read."""
        self._has_derived_views = False
        self._lock = Lock()
        self._connection = duckdb.connect(config=_CONFIG)
        # What a query prints must not depend on where it is run.
        self._connection.execute("SET TimeZone = 'UTC'")
        # Every view looks at every file.
        self._connection.execute("SET parquet_metadata_cache = true")
        self.refresh()

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open a folder of recordings or a cassette.

        Raises:
            StoreError: nothing is there, or it cannot be read.
        """
        return cls(Path(path))

    def close(self) -> None:
        """Let go of memory; nothing else is held."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def refresh(self) -> None:
        """See what has been recorded since.

        Raises:
            StoreError: it is not there any more, or cannot be read.
        """
        with self._lock:
            self._look()
            self._make_views()

    def sql(self, query: str, params: Sequence[object] = ()) -> pa.Table:
        """Run SQL over the tables `exchanges`, `chunks`, `frames` and `tool_calls`.

        Any thread may ask; queries run one after another.

        Args:
            query: DuckDB's SQL.
            params: values for its `?` placeholders.

        Raises:
            UsageError: the query is wrong.
            StoreError: a file of the store is damaged.
        """
        try:
            return self._run_in_thread(query, list(params))
        except duckdb.Error as error:
            # Some errors that only a damaged file makes have no class of their own.
            if type(error) is duckdb.Error or self._names_a_file(error):
                raise self._damaged(error) from error
            raise UsageError(f"{error}; {_SQL_HELP}") from error

    def _run_in_thread(self, query: str, params: list[object]) -> pa.Table:
        """Run SQL where it can be interrupted: DuckDB does not look at signals."""
        running: Future[pa.Table] = Future()

        def run() -> None:
            if not running.set_running_or_notify_cancel():
                return
            try:
                running.set_result(self._run(query, params))
            except BaseException as error:  # noqa: BLE001 - who waits is to have it
                running.set_exception(error)

        try:
            # A pool does not know a thread whose start was interrupted.
            Thread(target=run, name="sse-recorder-query").start()
            return running.result()
        except KeyboardInterrupt:
            while not (running.cancel() or running.done()):
                self._connection.interrupt()
                wait([running], timeout=0.05)
            raise

    def _run(self, query: str, params: list[object]) -> pa.Table:
        # A connection does one thing at a time, and its tables are its own.
        with self._lock:
            if not self._has_derived_views and views.mention().search(query):
                self._connection.execute(views.script())
                self._has_derived_views = True
            while True:
                try:
                    return self._query(query, params)
                except duckdb.Error:
                    # A rebuild may have put a file in place of one that was being read.
                    before, self._stamp = self._stamp, _stamp_of(self._files)
                    if before == self._stamp:
                        raise

    def _query(self, query: str, params: list[object]) -> pa.Table:
        relation: duckdb.DuckDBPyRelation | None = self._connection.sql(
            query, params=params or None
        )
        if relation is None:
            raise UsageError(f"there is no query in {query!r}; {_SQL_HELP}")
        return relation.to_arrow_table()

    def exchanges(self, where: str = "true") -> Iterator[Exchange]:
        """Give the exchanges in the order in which they began.

        Args:
            where: an SQL condition on the table `exchanges`.

        Raises:
            UsageError: the condition is wrong.
            StoreError: a file of the store is damaged.
        """
        query = (
            "SELECT * EXCLUDE (request_body)"
            " REPLACE (epoch_ns(started_at) AS started_at)"
            f" FROM exchanges_ns WHERE {where} ORDER BY started_at, exchange_id"
        )
        for rows in _by_size(self.sql(query).to_pylist()):
            bodies = self._request_bodies([row["exchange_id"] for row in rows])
            for row in rows:
                yield to_exchange(row | {"request_body": bodies[row["exchange_id"]]})

    def _request_bodies(self, ids: list[str]) -> dict[str, bytes]:
        query = (
            "SELECT exchange_id, request_body FROM exchanges_ns"
            " WHERE exchange_id IN (SELECT unnest(?))"
        )
        return dict(_tuples(self.sql(query, [ids])))

    def exchange(self, name: str) -> Exchange:
        """Return the one exchange whose id is, begins with, or ends with a text.

        Raises:
            UsageError: there is none, or more than one.
        """
        if not name:
            raise UsageError(
                f"{self.path}: '' is like every id; `sse-recorder ls` shows the ids,"
                " and a few characters will do"
            )
        condition = "starts_with(exchange_id, $1) OR ends_with(exchange_id, $1)"
        ids = self.sql(
            f"SELECT exchange_id FROM exchanges WHERE {condition}",
            [name],
        )
        found = ids.column(0).to_pylist()
        if name in found:
            found = [name]
        if len(found) != 1:
            count = "no exchange" if not found else f"{len(found)} exchanges"
            raise UsageError(
                f"{self.path}: {count} with an id like {name!r};"
                " `sse-recorder ls` shows the ids, and a few characters will do"
            )
        return next(self.exchanges(f"exchange_id = {_quoted(found[0])}"))

    def frames(self, exchange_id: str) -> Iterator[FrameRow]:
        """Give the frames of an exchange in their order."""
        query = "SELECT * FROM frames WHERE exchange_id = ? ORDER BY seq"
        for row in _tuples(self.sql(query, [exchange_id])):
            yield FrameRow(*row)

    def tool_calls(self, exchange_id: str) -> list[ToolCall]:
        """Return the tool calls of an exchange in the order in which they began."""
        # As the view has them, in a tenth of its time where there are many others.
        query = (
            "SELECT * FROM tool_calls_ns WHERE exchange_id = ? QUALIFY row_number()"
            " OVER (PARTITION BY seq ORDER BY timing) = 1 ORDER BY seq"
        )
        return [ToolCall(**row) for row in self.sql(query, [exchange_id]).to_pylist()]

    def chunks(self, exchange_id: str) -> list[Chunk]:
        """Return the chunks of an exchange: what each read of its body brought."""
        found = self._chunks("exchange_id = ?", [exchange_id])
        return next((chunks for _, chunks in found), [])

    def all_chunks(self) -> Iterator[tuple[str, list[Chunk]]]:
        """Give the chunks of every exchange that has some, with its id."""
        yield from self._chunks("true", [])

    def body(self, exchange_id: str) -> bytes:
        """Return the response body as it was on the wire, content coding included."""
        return b"".join(chunk.data for chunk in self.chunks(exchange_id))

    def _chunks(
        self, where: str, params: list[object]
    ) -> Iterator[tuple[str, list[Chunk]]]:
        chunks = self.sql(
            "SELECT exchange_id, at_ns, size, data FROM chunks"
            f" WHERE {where} ORDER BY exchange_id, seq",
            params,
        )
        frames = self.sql(
            f"SELECT exchange_id, {_FRAME_BYTES} FROM frames"
            f" WHERE {where} ORDER BY exchange_id, seq",
            params,
        )
        bodies = groupby(_tuples(frames), key=itemgetter(0))
        body_id, body_frames = next(bodies, ("", iter(())))
        for exchange_id, group in groupby(_tuples(chunks), key=itemgetter(0)):
            body = b""
            # Both are sorted; an exchange may have chunks and no frame.
            while body_id and body_id < exchange_id:
                body_id, body_frames = next(bodies, ("", iter(())))
            if body_id == exchange_id:
                try:
                    body = b"".join(_frame_bytes(*frame[1:]) for frame in body_frames)
                except ValueError as error:
                    raise self._damaged(error) from error
            yield exchange_id, list(_cut(body, group))

    def _look(self) -> None:
        if self.path.is_dir():
            self._look_at_folder()
        elif self.path.exists():
            self._live = cassette.read_rows(self.path).tables()
        else:
            raise StoreError(
                f"{self.path}: no such store or cassette; record one with"
                " `sse-recorder record --upstream URL`, or name it with --store"
            )

    def _look_at_folder(self) -> None:
        layout = Layout(self.path)
        if not layout.exists():
            cassettes = sorted(self.path.glob(f"*{cassette.SUFFIX}"))
            instead = (
                f"name one of its {len(cassettes)} cassettes, such as {cassettes[0]}"
                if cassettes
                else "record with `sse-recorder record --upstream URL`, or name a store"
                " with --store"
            )
            raise StoreError(f"{self.path}: nothing was recorded here; {instead}")
        sealed = layout.sealed_names()
        while True:
            known = set(sealed)
            names = [name for name in layout.journal_names() if name not in known]
            live, damage = _read_journals(layout, names)
            sealed = layout.sealed_names()
            if not set(names).intersection(sealed):
                break
        self._files = {
            table: [str(layout.table(name, table)) for name in sealed]
            for table in SCHEMAS
        }
        self._stamp = _stamp_of(self._files)
        for problem in damage - self._damage:
            log.warning("%s", problem)
        self._damage |= damage
        self._live = {
            table: pa.concat_tables([part[table] for part in live])
            if live
            else schema.empty_table()
            for table, schema in SCHEMAS.items()
        }

    def _make_views(self) -> None:
        connection = self._connection
        self._has_derived_views = False  # they may have other columns now
        for table in SCHEMAS:
            connection.register(f"live_{table}", self._live[table])
            source = f"SELECT * FROM live_{table}"
            if files := self._files.get(table):
                names = ", ".join(map(_quoted, files))
                source = (
                    f"SELECT * FROM read_parquet([{names}], union_by_name = true,"
                    f" hive_partitioning = false) UNION ALL BY NAME {source}"
                )
            view = _VIEWS.get(table, f"SELECT * FROM {table}_ns")
            try:
                connection.execute(f"CREATE OR REPLACE VIEW {table}_ns AS {source}")
                connection.execute(f"CREATE OR REPLACE VIEW {table} AS {view}")
            except duckdb.Error as error:
                raise self._damaged(error) from error

    def _names_a_file(self, error: Exception) -> bool:
        text = str(error)
        return any(name in text for files in self._files.values() for name in files)

    def _damaged(self, error: Exception) -> StoreError:
        first_line = str(error).partition("\n")[0]
        return StoreError(
            f"{self.path}: a file cannot be read ({first_line}); move that file away or"
            " restore it, the rest of the store is whole"
        )


def _stamp_of(files: dict[str, list[str]]) -> list[tuple[int, int]]:
    """Return what is another where a file is another one."""
    stamp = []
    for path in map(Path, chain.from_iterable(files.values())):
        with suppress(FileNotFoundError):
            status = path.stat()
            stamp.append((status.st_ino, status.st_mtime_ns))
    return stamp


def _read_journals(
    layout: Layout, names: list[str]
) -> tuple[list[dict[str, pa.Table]], set[str]]:
    """Return the tables of journals, open exchanges among them; and what is lacking."""
    found: list[dict[str, pa.Table]] = []
    damage: set[str] = set()
    for recorder_id, group in groupby(
        sorted(names, key=segment_recorder), key=segment_recorder
    ):
        reader = JournalReader(earlier_frames(layout, recorder_id))
        for name in group:
            path = layout.journal(name)
            try:
                found.append(reader.read(path).tables())
            except FileNotFoundError:
                continue  # sealed since
            except Exception as error:  # noqa: BLE001 - damage can make anything of it
                damage.add(_unreadable(path, error))
                break  # nor can what follows be read without it
            if reader.damage is not None:
                damage.add(str(reader.damage))
        still_open = Rows()
        for transcript in reader.open.values():
            still_open.add_exchange(transcript.exchange())
        found.append(still_open.tables())
    return found, damage


def _unreadable(path: Path, error: Exception) -> str:
    if isinstance(error, StoreError):
        return str(error)
    return f"{path}: it is damaged ({error!r}); run `sse-recorder recover`"


def _by_size(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Group rows so that the request bodies of each group fit into memory."""
    group: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        if group and size + row["request_body_size"] > _BODIES_BYTES:
            yield group
            group, size = [], 0
        group.append(row)
        size += row["request_body_size"]
    if group:
        yield group


def _quoted(text: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def _tuples(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    """Give the rows of a table, a few thousand of them at a time."""
    for batch in table.to_batches(max_chunksize=_ROWS):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _frame_bytes(raw: bytes | None, layout: str, *values: Any) -> bytes:
    return rebuild(layout, *values) if raw is None else raw


def _cut(body: bytes, rows: Iterator[tuple[Any, ...]]) -> Iterator[Chunk]:
    position = 0
    for _, at_ns, size, data in rows:
        if data is None:
            data = body[position : position + size]  # noqa: PLW2901
            position += size
        yield Chunk(at_ns, data)


def to_exchange(row: dict[str, Any]) -> Exchange:
    """Return a row of `exchanges`, with `started_at` as a number, as an exchange."""
    for name in ("request_headers", "response_headers", "response_trailers"):
        row[name] = tuple((pair["name"], pair["value"]) for pair in row[name] or ())
    row["tags"] = dict(row["tags"] or ())
    row["outcome"] = row["outcome"] and Outcome(row["outcome"])
    return Exchange(**row)
