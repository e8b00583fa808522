"""The metrics of the bus: one vocabulary, written here and nowhere else."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

commands_answered = Counter("tally_commands_answered_total", "Commands answered by engines.", ("domain", "outcome"))
blocks_appended = Counter("tally_blocks_appended_total", "Blocks that became durable.", ("domain",))
append_seconds = Histogram(
    "tally_append_seconds",
    "From handing a block to the broker to its acknowledgement.",
    ("domain",),
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0),
)
append_troubles = Counter(
    "tally_append_troubles_total",
    "Appends that ended in a conflict, a refusal or without an answer.",
    ("domain", "kind"),
)
engine_queue = Gauge("tally_engine_queue", "Commands that wait for a block.", ("domain",), multiprocess_mode="livesum")
reactor_position = Gauge(
    "tally_reactor_position", "Last position handled by a reactor.", ("reactor",), multiprocess_mode="livemax"
)
reactor_retries = Counter("tally_reactor_retries_total", "Reactions that had to be tried again.", ("reactor",))
reactor_parked = Counter("tally_reactor_parked_total", "Reactions that were given up and parked.", ("reactor",))
outbox_backlog = Gauge(
    "tally_outbox_backlog", "Rows of an outbox that are not on the log yet.", ("service",), multiprocess_mode="livemax"
)
outbox_lag_seconds = Gauge(
    "tally_outbox_lag_seconds",
    "For how long the oldest of them has waited.",
    ("service",),
    multiprocess_mode="livemax",
)
outbox_published = Counter("tally_outbox_published_total", "Rows of an outbox that were published.", ("service",))
calls = Counter("tally_calls_total", "Calls along the call path, by what became of them.", ("destination", "outcome"))
call_seconds = Histogram(
    "tally_call_seconds",
    "A call with all its tries and pauses.",
    ("destination",),
    buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10),
)
call_retries = Counter("tally_call_retries_total", "Tries after the first.", ("destination",))
call_retries_refused = Counter(
    "tally_call_retries_refused_total", "Tries that were left out, for the budget was spent.", ("destination",)
)
call_fallbacks = Counter("tally_call_fallbacks_total", "Calls whose fallback was the answer.", ("destination",))
degraded_answers = Counter(
    "tally_degraded_answers_total", "Answers that did without something that could not be had.", ("lacks",)
)
unread_cut = Counter(
    "tally_unread_connections_cut_total", "Connections whose client did not read its answer, and that were cut."
)
call_faults = Counter("tally_call_faults_total", "Faults that were put in on purpose.", ("destination", "kind"))
breaker_state = Gauge(
    "tally_breaker_state",
    "0 closed, 1 half open, 2 open; the worst of all processes.",
    ("destination",),
    multiprocess_mode="livemax",
)
breaker_transitions = Counter("tally_breaker_transitions_total", "Turns of breakers.", ("destination", "to"))
mesh_reads = Counter("tally_mesh_reads_total", "Changes of the policy file, by what became of them.", ("outcome",))
jobs_done = Counter("tally_jobs_done_total", "Jobs of a work queue that were done.", ("queue",))
job_retries = Counter("tally_job_retries_total", "Jobs that were put back to be tried again.", ("queue",))
jobs_given_up = Counter("tally_jobs_given_up_total", "Jobs that failed for good and were parked.", ("queue",))
queue_waiting = Gauge(
    "tally_queue_waiting",
    "Frames of queued commands that wait for a worker.",
    ("domain",),
    multiprocess_mode="mostrecent",
)
queue_handled = Counter("tally_queue_handled_total", "Queued commands that were dealt with.", ("domain", "outcome"))
queue_retries = Counter("tally_queue_retries_total", "Queued commands that had to be sent again.", ("domain",))
