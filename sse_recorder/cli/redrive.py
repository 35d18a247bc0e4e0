"""`redrive`: recorded requests, sent again to a live server, and what has changed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from sse_recorder import analytics, config
from sse_recorder.background import run
from sse_recorder.cli import providers
from sse_recorder.cli.base import (
    counted,
    format_option,
    messages,
    option,
    rule_options,
    say,
    store_option_with,
)
from sse_recorder.cli.compare import Side
from sse_recorder.cli.divergences import report
from sse_recorder.cli.files import allow_files
from sse_recorder.cli.serve import grace_option, spared_collections
from sse_recorder.cli.waterfall import duration, printable
from sse_recorder.diff import (
    Change,
    Compared,
    Divergence,
    Rules,
    tolerance,
)
from sse_recorder.errors import UsageError
from sse_recorder.exchange import Exchange
from sse_recorder.faults import duration_ns
from sse_recorder.http1.client import default_ssl_context
from sse_recorder.paths import ignoring
from sse_recorder.playback import MAX_SPEED, speed_of
from sse_recorder.redrive import TAG, Given, Order, Plan, Redrive, compare_answer
from sse_recorder.store.store import Store

INTERRUPTED: Final = 130
_NOTHING_SENT: Final = 3
_ROWS_SHOWN: Final = 20
_RULES: Final = ("mask", "keep", "patterns")
# What was itself sent again is no original, and is often in the same store.
_ORIGINAL: Final = f"tags['{TAG}'] IS NULL"
# Where official clients look for the values of headers; the first that is set counts.
KEYS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "openai": {"authorization": ("OPENAI_API_KEY",)},
    "anthropic": {
        "x-api-key": ("ANTHROPIC_API_KEY",),
        "authorization": ("ANTHROPIC_AUTH_TOKEN",),
    },
    "gemini": {"x-goog-api-key": ("GOOGLE_API_KEY", "GEMINI_API_KEY")},
    "groq": {"authorization": ("GROQ_API_KEY",)},
    "cohere": {"authorization": ("CO_API_KEY",)},
    "mistral": {"authorization": ("MISTRAL_API_KEY",)},
    "ollama": {"authorization": ("OLLAMA_API_KEY",)},
    "azure": {"api-key": ("AZURE_OPENAI_API_KEY",)},
}


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@option(
    "--to",
    metavar="URL",
    required=True,
    help="The live server.  A path in it goes in front of that of every request, which"
    " is the path as it was sent upstream.",
)
@store_option_with("The folder to record into; it is made if it is not there.")
@option(
    "--speed",
    default="1",
    show_default=True,
    metavar="N|max",
    help="How many times as fast as recorded requests arrive; max is without waiting.",
)
@option(
    "--max-gap",
    metavar="TIME",
    help="The longest wait between two requests, such as 2s or 500ms; a real time at"
    " any --speed.",
)
@option(
    "--order",
    type=click.Choice([order.value for order in Order]),
    default=Order.SESSION.value,
    show_default=True,
    help="What a request waits for, beside its time: those of its session that had"
    " ended before it began, all that had, or none.",
)
@option(
    "--concurrency",
    metavar="N",
    type=click.IntRange(min=1),
    help="How many requests may be open.  By default 500, and 10 at --speed max.",
)
@option(
    "--repeat",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Send all of them so often, each time when the last one is over.",
)
@option(
    "--where",
    metavar="SQL",
    help="Only exchanges for which this is true, such as \"path LIKE '/v1/%'\".",
)
@option(
    "--exchange",
    "ids",
    metavar="ID",
    multiple=True,
    help="Only this one; its first or last characters will do.  Can be given again.",
)
@click.option(
    "-H",
    "--header",
    "headers",
    metavar="'NAME: VALUE'",
    multiple=True,
    help="Send this header in place of the recorded one, or none with 'NAME:'.  It is"
    " masked in the new recordings.  Can be given again.",
)
@option(
    "--upstream-timeout",
    "upstream_timeout_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    help="How long the server may be silent.  By default as long as it likes.",
)
@option(
    "--ca-file",
    type=click.Path(exists=True, dir_okay=False),
    help="Certificate authorities to trust in place of the system's, as PEM.",
)
@rule_options
@option(
    "--ignore",
    metavar="RULE",
    multiple=True,
    only_in="redrive",
    help="A JSON member, or a path as it is printed, that is no difference; see diff.",
)
@option(
    "--timing",
    metavar="10%|50ms",
    only_in="redrive",
    help="Compare times, too; so much more is no difference.",
)
@option(
    "--junit",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    only_in="redrive",
    help="Write a test report as well, with a test for each exchange.",
)
@option(
    "--summary",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    only_in="redrive",
    help="Write what came of it in Markdown as well, for a comment on a pull request.",
)
@format_option
@grace_option
def redrive(**options: Any) -> int:
    """Send recorded requests again to a live server, and compare its answers.

    SOURCE is a folder of recordings or a cassette.  Requests arrive at the times at
    which they were recorded, however slow the server is, but for those of a session,
    which wait for one another as they did.  Each answer is recorded, tagged
    redrive_of, and compared with the recorded one, as diff does.  What a redrive has
    recorded is not sent again, unless --exchange names it.

    Credentials were masked: give them with -H.  Where --to is the vendor's own host,
    OPENAI_API_KEY, ANTHROPIC_API_KEY and their like are used.  Without either the
    header is left out.  Requests with a masked query or body are skipped.  Repeat the
    --redact-pattern that recordings were made with: without it, nothing tells that what
    it masked is a mask, and it is sent as stars; with it, text with stars is skipped.

    Of a recording that its client left, only what it had read is compared.

    \b
    sse-recorder redrive recordings --to http://127.0.0.1:8000 --store after
    sse-recorder redrive main.sse.jsonl --to https://api.meibel.ai \\
                         -H "Meibel-API-Key: $KEY" --speed max --junit report.xml

    Exits with 0 when no answer differs, 1 when one does or a request was skipped, 3
    when the server answered none, and 130 when it was interrupted.
    """
    rules = Rules(
        ignored=tuple(map(ignoring, options["ignore"])),
        timing=None if options["timing"] is None else tolerance(options["timing"]),
    )
    environ = config.environment()
    variables = _variables(options["to"], environ)
    keys = {name: environ[variable] for name, variable in variables.items()}
    given = Given(options["headers"], keys)
    ca_file = options["ca_file"]
    with ExitStack() as stack:
        opened = [stack.enter_context(Store.open(s)) for s in options["sources"]]
        sources = list(map(_Source, opened))
        made = Redrive(
            _selected(sources, options["ids"], options["where"]),
            options["to"],
            store=options["store"],
            plan=_plan(options),
            given=given,
            redactor=given.redactor(**{name: options[name] for name in _RULES}),
            tls=default_ssl_context(ca_file) if ca_file else None,
        )
        redriven = stack.enter_context(closing(made))
        allow_files()
        _say_what_begins(redriven, options["to"], variables)
        _say_what_is_mixed(redriven, sources)
        is_whole = not redriven.jobs or run(_drive(redriven, options["grace_s"]))
        found = list(_compared(redriven, sources, rules)) if redriven.sent else []
    _say_what_was(redriven)
    code = report(found, options["format_"], options["junit"], redriven.skipped)
    if options["summary"] is not None:
        text = _summary(redriven, found, options["to"])
        options["summary"].write_text(text, encoding="utf-8")
    if not is_whole:
        return INTERRUPTED
    return (
        _NOTHING_SENT if _is_silent(redriven) else int(code or redriven.skipped != [])
    )


def _plan(options: Mapping[str, Any]) -> Plan:
    gap = options["max_gap"]
    return Plan(
        speed=speed_of(options["speed"]),
        max_gap_ns=None if gap is None else duration_ns(gap),
        concurrency=options["concurrency"],
        order=Order(options["order"]),
        repeat=options["repeat"],
        timeout_s=options["upstream_timeout_s"],
    )


def _variables(url: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with a vendor's keys, by the headers that they are for.

    They are for the vendor's own hosts, and for nobody on the way there.
    """
    parts = urlsplit(url)
    if parts.scheme != "https":
        return {}
    host = (parts.hostname or "").rstrip(".")
    found: dict[str, str] = {}
    for provider in providers.PROVIDERS:
        if provider.has(host):
            for name, variables in KEYS.get(provider.name, {}).items():
                value = next((v for v in variables if environ.get(v)), None)
                if value is not None:
                    found.setdefault(name, value)
    return found


# --- what is sent, and compared -------------------------------------------------------


class _Source:
    """Where recorded exchanges are, and which of them were chosen."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.chosen: set[str] = set()

    def find(self, name: str) -> str | None:
        """Return the id of the one exchange with such a name, if there is one.

        Raises:
            UsageError: there are several.
        """
        like = "starts_with(exchange_id, $1) OR ends_with(exchange_id, $1)"
        query = f"SELECT 1 FROM exchanges WHERE {like} LIMIT 1"  # noqa: S608 - ours
        is_known = self.store.sql(query, [name]).num_rows
        return self.store.exchange(name).exchange_id if is_known else None


def _selected(
    sources: Sequence[_Source], ids: Sequence[str], where: str | None
) -> Iterator[Exchange]:
    """Give the exchanges that are asked for; of one in two sources, the first."""
    seen: set[str] = set()
    known = [[source.find(name) for name in ids] for source in sources]
    for source, found in zip(sources, known, strict=True):
        parts = [analytics.condition(source.store, where=where)]
        if ids:
            names = [eid for eid in found if eid]
            parts.append(f"list_contains({names}::VARCHAR[], exchange_id)")
        else:
            parts.append(_ORIGINAL)
        for exchange in source.store.exchanges(" AND ".join(parts)):
            if exchange.exchange_id not in seen:
                seen.add(exchange.exchange_id)
                source.chosen.add(exchange.exchange_id)
                yield exchange
    for name, *found in zip(ids, *known, strict=True):
        if not any(found):
            sources[0].store.exchange(name)  # says that there is none
        if seen.isdisjoint(found):
            raise UsageError(f"--where leaves out {name!r}: give one of the two")


async def _drive(redriven: Redrive, grace_s: float) -> bool:
    """Send everything; return whether that was done before a signal came."""
    loop = asyncio.get_running_loop()
    signals: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signals.put_nowait, number)
    with _progress(redriven), spared_collections():
        running = loop.create_task(redriven.run())
        told = loop.create_task(signals.get())
        await asyncio.wait({running, told}, return_when=asyncio.FIRST_COMPLETED)
        is_stopped = not running.done()
        if is_stopped:
            redriven.stop()
            say("Stopping: what is open may end (Ctrl-C cuts it).")
            again = loop.create_task(signals.get())
            await asyncio.wait(
                {running, again},
                timeout=grace_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            again.cancel()
            redriven.cut()
        told.cancel()
        await running
    return not is_stopped


def _compared(
    redriven: Redrive, sources: Sequence[_Source], rules: Rules
) -> Iterator[Compared]:
    """Hold each answer against the recorded one."""
    originals = [job.exchange for job in redriven.jobs]
    with Store.open(redriven.store) as opened:
        recorded = redriven.recorded(opened)
        answers = Side(opened, [x for found in recorded.values() for x in found])
        sides: dict[str, Side] = {}
        for source in sources:
            own = [x for x in originals if x.exchange_id in source.chosen]
            sides |= dict.fromkeys(source.chosen, Side(source.store, own))
        for number, original in enumerate(originals):
            times, eid = redriven.times[number], original.exchange_id
            if not times:
                continue
            place = ("exchange", number)
            left = sides[eid].load(original)
            found = recorded.get(eid, [])
            for answer in found:
                right = answers.load(answer)
                divergences = compare_answer(left, right, rules, place)
                yield Compared(original, answer, divergences)
            for _ in range(times - len(found)):  # what the recorder lost
                lost = Divergence(place, Change.MISSING, left="the new recording")
                yield Compared(original, None, [lost])


# --- what is said ---------------------------------------------------------------------


@contextmanager
def _progress(redriven: Redrive) -> Iterator[None]:
    """Show how far it is, to who looks on."""
    if not messages.is_terminal:
        yield
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=messages, transient=True) as progress:
        total = len(redriven.jobs) * redriven.plan.repeat
        task = progress.add_task("Sending", total=total)

        def show() -> None:
            open_ = redriven.sent - redriven.over
            text = f"Sending · {open_:,} open · {redriven.unanswered:,} unanswered"
            progress.update(task, completed=redriven.over, description=text)

        redriven.on_change = show
        yield


def _say_what_begins(redriven: Redrive, to: str, variables: Mapping[str, str]) -> None:
    plan, count = redriven.plan, len(redriven.jobs)
    if count:
        times = f", {plan.repeat:,} times" if plan.repeat > 1 else ""
        over = ""
        if plan.speed != MAX_SPEED and redriven.due_ns[-1]:
            over = f" over {duration(redriven.due_ns[-1])}"
        say(
            f"Sending {counted(count, 'request')} to {to}{over}{times}"
            " (Ctrl-C ends it)."
        )
    for name, variable in variables.items():
        say(f"Where {name} was masked, it is sent with {variable}.")
    if left_out := redriven.left_out:
        names = ", ".join(
            f"{printable(name)} (in {counted(n, 'request')})"
            for name, n in left_out.items()
        )
        say(f"Masked, so left out: {names}; give it with -H 'NAME: VALUE'.")


def _say_what_is_mixed(redriven: Redrive, sources: Sequence[_Source]) -> None:
    is_source = any(
        source.store.path.resolve() == redriven.store.resolve() for source in sources
    )
    if redriven.jobs and is_source:
        say(
            f"The answers go into {redriven.store}, which is a source; replays of it"
            " will find today's answers, too: give --store another folder."
        )


def _say_what_was(redriven: Redrive) -> None:
    text = f"Sent {counted(redriven.sent, 'request')}"
    if redriven.unanswered:
        text += f", {redriven.unanswered:,} unanswered ({redriven.first_error})"
    if redriven.unsent:
        text += f", {redriven.unsent:,} not sent"
    into = (
        f" The answers are in {redriven.store}, tagged {TAG}." if redriven.sent else ""
    )
    say(f"{text}.{into}")
    for line in redriven.skips():
        say(f"Skipped {line}")
    if redriven.held:
        say(f"{counted(redriven.held, 'request')} waited for earlier ones.")
    if redriven.lateness.count:
        say(f"Lateness: {redriven.lateness}")
    if redriven.sent and _is_silent(redriven):
        say("The server answered none: start it, or mend --to.")


def _is_silent(redriven: Redrive) -> bool:
    return redriven.unanswered == redriven.sent


def _summary(redriven: Redrive, found: Sequence[Compared], to: str) -> str:
    """Return what came of it as Markdown."""
    differ = [pair for pair in found if pair.divergences]
    is_good = not differ and not redriven.skipped and not redriven.unsent
    mark, answers = "✅" if is_good else "❌", counted(len(found), "answer")
    verb = "differs" if len(differ) == 1 else "differ"
    lines = [f"### {mark} Of {answers} {len(differ):,} {verb}", ""]
    if differ:
        lines += ["| request | divergences | first |", "|---|---|---|"]
    for pair in differ[:_ROWS_SHOWN]:
        assert pair.left is not None
        first = pair.divergences[0]
        cells = (
            f"`{pair.left.method} {pair.left.target}`",
            f"{len(pair.divergences):,}",
            f"`{first.where}` {first.kind}",
        )
        shown = (printable(cell).replace("|", "\\|") for cell in cells)
        lines.append(f"| {' | '.join(shown)} |")
    if len(differ) > _ROWS_SHOWN:
        lines.append(f"\n… and {len(differ) - _ROWS_SHOWN:,} more.")
    told = [f"Sent {counted(redriven.sent, 'request')} to `{printable(to)}`."]
    if redriven.unanswered:
        told.append(f"{redriven.unanswered:,} unanswered.")
    if redriven.unsent:
        told.append(f"{redriven.unsent:,} not sent.")
    told += [f"Skipped {line}." for line in redriven.skips()]
    if redriven.lateness.count:
        told.append(f"Lateness: {redriven.lateness}.")
    return "\n".join([*lines, "", *told, ""])


COMMANDS: Final = (redrive,)
