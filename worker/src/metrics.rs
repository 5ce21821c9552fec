//! What the worker counts. No label holds anything a user typed.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram};
use std::sync::OnceLock;
use std::time::Duration;

/// The worker's instruments; made once, after telemetry is set up.
struct Instruments {
    commands: Counter<u64>,
    refused: Counter<u64>,
    calls: Histogram<f64>,
    streams: Counter<u64>,
    log_bytes: Counter<u64>,
    engine_answers: Gauge<u64>,
}

fn instruments() -> &'static Instruments {
    static INSTRUMENTS: OnceLock<Instruments> = OnceLock::new();
    INSTRUMENTS.get_or_init(|| {
        let meter = opentelemetry::global::meter("muster-worker");
        Instruments {
            commands: meter
                .u64_counter("muster.worker.commands")
                .with_description("commands taken in, by kind")
                .build(),
            refused: meter
                .u64_counter("muster.worker.commands.refused")
                .with_description("commands refused, such as those of an older term or past their deadline")
                .build(),
            calls: meter
                .f64_histogram("muster.worker.engine.call.duration")
                .with_unit("s")
                .with_description("calls to the engine, by kind and outcome")
                .build(),
            streams: meter
                .u64_counter("muster.worker.streams")
                .with_description("tries to reach a coordinator, by outcome")
                .build(),
            log_bytes: meter
                .u64_counter("muster.worker.log.pushed")
                .with_unit("By")
                .with_description("bytes of logs given to readers")
                .build(),
            engine_answers: meter
                .u64_gauge("muster.worker.engine.answers")
                .with_unit("1")
                .with_description(
                    "1 while the engine answers, else 0; at 0 from the start on the node is not in service, though ranks may run",
                )
                .build(),
        }
    })
}

/// A command was taken in.
pub(crate) fn command(kind: &'static str) {
    instruments().commands.add(1, &[KeyValue::new("kind", kind)]);
}

/// A command was refused.
pub(crate) fn refused() {
    instruments().refused.add(1, &[]);
}

/// A call to the engine ended.
pub(crate) fn engine_call(kind: &'static str, outcome: &'static str, took: Duration) {
    let labels = [KeyValue::new("kind", kind), KeyValue::new("outcome", outcome)];
    instruments().calls.record(took.as_secs_f64(), &labels);
}

/// A stream was accepted, refused or lost, or could not be opened.
pub(crate) fn stream(outcome: &'static str) {
    instruments().streams.add(1, &[KeyValue::new("outcome", outcome)]);
}

/// A piece of a log went out.
pub(crate) fn log_pushed(bytes: usize) {
    instruments().log_bytes.add(u64::try_from(bytes).unwrap_or(u64::MAX), &[]);
}

/// Whether the engine answered when it was asked last.
pub(crate) fn engine_answers(answers: bool) {
    instruments().engine_answers.record(u64::from(answers), &[]);
}
