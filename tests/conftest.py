"""Fixtures that more than one test file uses."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Callable, Coroutine, Iterator

import pytest
import uvloop
from http1.wire import Run

pytest_plugins = ("pytester",)

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}

TWINS = re.compile(r"\bhttpx-async\b|\bhttpx2-sync\b")

# What takes seconds each, and is more of what quicker tests check, too: the pages
# behind the README, second writers and workers, kills at random moments, shells, what
# happens to come in, and refusals one by one.
SLOW = (
    "analytics/test_compare.py::test_fifteen_percent",
    "analytics/test_compare.py::test_what_has_not_changed",
    "analytics/test_compare.py::test_what_is_rare",
    "analytics/test_init.py::test_selecting_everything",
    "capture/test_process.py::test_a_process_at_work",
    "capture/test_process.py::test_a_process_that_was_stopped",
    "capture/test_process.py::test_a_wedged_writer",
    "capture/test_process.py::test_a_writer_that_cannot",
    "capture/test_process.py::test_a_writer_that_is_stopped",
    "capture/test_process.py::test_stopping_under_load",
    "capture/test_scribe.py::test_an_exchange_may_span",
    "cli/test_base.py::test_a_list_of_one",
    "cli/test_base.py::test_a_reader_that_has",
    "cli/test_base.py::test_a_setting_of_another",
    "cli/test_cassettes.py::test_a_selection_of_nothing",
    "cli/test_cassettes.py::test_duplicates_are_told",
    "cli/test_cassettes.py::test_git_shows_what_differs",
    "cli/test_cassettes.py::test_some_exchanges_become",
    "cli/test_cassettes.py::test_what_cannot_be_served",
    "cli/test_cassettes.py::test_what_no_cassette",
    "cli/test_child.py::test_what_cannot_be_run",
    "cli/test_compare.py::test_what_is_wrong",
    "cli/test_completing.py",
    "cli/test_demo.py::test_the_demo_works_offline",
    "cli/test_fetch.py::test_a_status_is_an_error",
    "cli/test_fetch.py::test_curl_sends_the_same",
    "cli/test_fetch.py::test_options_that_cannot",
    "cli/test_fetch.py::test_what_is_no_url",
    "cli/test_fetch.py::test_who_has_seen_enough",
    "cli/test_importing.py::test_copies_of_a_file",
    "cli/test_importing.py::test_wrong_usage",
    "cli/test_init.py::test_another_command_that_is_interrupted",
    "cli/test_init.py::test_flag_goes_before",
    "cli/test_init.py::test_who_ignores_ctrl_c",
    "cli/test_keep.py::test_ids_choose",
    "cli/test_keep.py::test_what_is_exported_can_be_read",
    "cli/test_keep.py::test_what_is_exported_is_replayed",
    "cli/test_otel.py::test_what_cannot_be_done",
    "cli/test_query.py::test_the_sql_of_a_report_runs_from",
    "cli/test_record.py::test_a_client_of_a_route",
    "cli/test_record.py::test_an_exchange_that_does_not_end_in_time",
    "cli/test_record.py::test_record_and_replay_have_one_store",
    "cli/test_record.py::test_routes_can_be_settings",
    "cli/test_record.py::test_what_does_not_go_together",
    "cli/test_record.py::test_what_faults_did",
    "cli/test_redact.py::test_wrong_usage_is_told",
    "cli/test_redrive.py::test_all_of_many",
    "cli/test_redrive.py::test_another_answer",
    "cli/test_redrive.py::test_streams_that_do_not_end",
    "cli/test_redrive.py::test_the_same_answers",
    "cli/test_redrive.py::test_what_was_sent_again",
    "cli/test_redrive.py::test_who_looks_on",
    "cli/test_replay.py::test_speed_is_what_flag",
    "cli/test_replay.py::test_what_is_ignored_is_what_flags",
    "cli/test_replay.py::test_what_replay_cannot_do",
    "cli/test_reports.py::test_every_report_fits",
    "cli/test_reports.py::test_no_number_is_cut",
    "cli/test_workers.py",
    "dialects/test_init.py::test_whatever_a_client_repeats",
    "dialects/test_init.py::test_whatever_a_peer_sends",
    "dialects/test_init.py::test_whatever_has_the_right",
    "dialects/test_plugins.py::test_a_name_that_two",
    "dialects/test_plugins.py::test_one_that_is_broken",
    "dialects/test_plugins.py::test_what_was_recorded",
    "end_to_end/test_fuzz.py",
    "end_to_end/test_survival.py::test_a_secret_in_a_coded",
    "end_to_end/test_survival.py::test_a_writer_that_is_gone",
    "end_to_end/test_survival.py::test_no_exchange_is_lost",
    "otel/test_ambient.py",
    "redrive/test_sending.py::test_at_the_highest",
    "redrive/test_sending.py::test_what_fails",
    "store/rebuild/test_run.py::test_a_rebuild_that_is_killed",
    "store/rebuild/test_run.py::test_a_store_that_is_recorded_into",
    "store/rebuild/test_run.py::test_readers_that_have",
    "store/rebuild/test_run.py::test_what_was_told_wrongly",
    "store/test_recovery.py::test_any_rolls",
    "store/test_verify.py::test_every_flipped_bit",
    "test_match.py::test_a_key_of_any_length",
    "test_proxy.py::test_a_slow_",
    "test_proxy.py::test_bodies_of_any_size",
    "test_pytest_plugin.py::test_a_client_that_lost_patience",
    "test_pytest_plugin.py::test_a_name_for_many_tests",
    "test_pytest_plugin.py::test_a_process_that_takes_the_place",
    "test_pytest_plugin.py::test_a_wrong_mark",
    "test_pytest_plugin.py::test_events_that_are_never",
    "test_pytest_plugin.py::test_who_may_have_taken",
    "test_readme.py::test_every_command_and_every_example_works[docs/",
    "test_transcript.py::test_memory_stays_flat",
    "transport/test_recording.py::test_a_forgotten_response",
    "transport/test_tracing.py::test_each_way_out",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tell what is slow, and begin with what takes longest of the rest."""
    for item in items:
        name = item.nodeid.removeprefix("tests/")
        # What passes on one loop, or with one library, and not with the other is rare.
        is_twin = "[asyncio" in name and not name.startswith("http1/")
        is_twin |= name.startswith("transport/") and bool(TWINS.search(name))
        if name.startswith(SLOW) or is_twin:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: "/test_readme.py" not in item.nodeid)


@pytest.fixture(autouse=True)
def _ctrl_c_is_as_it_was() -> Iterator[None]:
    """Take Ctrl-C from loops that served in this process: they keep it when closed."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == blocked


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    """Return what runs a coroutine on each loop, and fails if the loop saw an error."""

    def run_one(main: Coroutine[object, object, None]) -> None:
        async def guarded() -> None:
            problems: list[dict[str, object]] = []
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: problems.append(context))
            async with asyncio.timeout(30):
                await main
            assert problems == []

        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(guarded())

    return run_one
