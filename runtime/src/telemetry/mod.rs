//! Logs to standard error, and traces, metrics and logs over OTLP if a collector is configured.
//!
//! A binary lists [`KEYS`] in its program, has a field `telemetry: telemetry::Config`, calls [`start`] inside the
//! runtime and [`Telemetry::shutdown`] at its end. Meters come from `opentelemetry::global::meter` after [`start`].
//! A collector that is slow or dead costs what it should have got, never time: queues are bounded and drop.

mod context;
mod export;

#[cfg(test)]
mod tests;

pub use context::{continue_from, continue_from_metadata, current_traceparent, inject, span_parent, traceparent_of};

use crate::config::{Complaint, Key, Kind};
use export::Providers;
use opentelemetry::trace::TracerProvider;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;
use tracing::Dispatch;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::{Registry, fmt};

/// Longest time for sending what is queued when the process ends.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(2);

/// The keys of section `telemetry`.
pub const KEYS: &[Key] = &[
    Key::new("telemetry.log", Kind::Text, "what is logged to standard error, as level or target=level,…")
        .default("info")
        .also_variable("RUST_LOG"),
    Key::new("telemetry.log_format", Kind::Choice(&["human", "json"]), "how log lines look").default("human"),
    Key::new(
        "telemetry.endpoint",
        Kind::Url,
        "where an OpenTelemetry collector takes OTLP over gRPC; nothing is exported without it",
    )
    .also_variable("OTEL_EXPORTER_OTLP_ENDPOINT"),
    Key::new("telemetry.ca_file", Kind::Path, "certificate authority of the collector, PEM; needed for https"),
    Key::new("telemetry.trace_ratio", Kind::Number { min: 0.0, max: 1.0 }, "share of new traces that is recorded")
        .default("1"),
    Key::new("telemetry.metrics_interval_ms", Kind::DurationMs, "time between two exports of metrics, at least 1s")
        .default("15s"),
];

/// Section `telemetry`.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Filter of the log on standard error.
    pub log: String,
    /// How its lines look.
    pub log_format: LogFormat,
    /// The collector.
    pub endpoint: Option<String>,
    /// Its certificate authority.
    pub ca_file: Option<PathBuf>,
    /// Share of new traces that is recorded, 0 to 1.
    pub trace_ratio: f64,
    /// Time between two exports of metrics.
    pub metrics_interval_ms: u64,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// What is wrong with it; part of a program's [`crate::config::Validate`].
    #[must_use]
    pub fn complaints(&self) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        if EnvFilter::builder().parse(&self.log).is_err() {
            complaints
                .push(Complaint::new("telemetry.log", "a level or target=level,…, such as info or warn,muster=debug"));
        }
        let encrypted = self.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("https:"));
        if encrypted && self.ca_file.is_none() {
            complaints.push(Complaint::new("telemetry.ca_file", "a file, since telemetry.endpoint is https"));
        }
        if self.ca_file.is_some() && !encrypted {
            complaints.push(Complaint::new("telemetry.endpoint", "an https URL, since telemetry.ca_file is set"));
        }
        if self.metrics_interval_ms < 1_000 {
            complaints.push(Complaint::new("telemetry.metrics_interval_ms", "at least 1s"));
        }
        complaints
    }
}

/// Who is telling: the resource of every signal.
#[derive(Clone, Debug)]
pub struct Service {
    /// `service.name`.
    pub name: &'static str,
    /// `service.version`.
    pub version: &'static str,
    /// `service.instance.id`: the node's or coordinator's own name.
    pub instance: String,
}

/// Why telemetry cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is malformed.
    #[error("telemetry.log: {0}")]
    Filter(String),
    /// The endpoint is malformed.
    #[error("telemetry.endpoint: {0}")]
    Endpoint(String),
    /// The certificate authority cannot be read.
    #[error("telemetry.ca_file: cannot read {}: {error}", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// An exporter cannot be made.
    #[error("cannot export: {0}")]
    Exporter(String),
    /// This process logs already.
    #[error("telemetry is started already")]
    Started,
}

/// Telemetry of this process, until [`Telemetry::shutdown`].
#[must_use = "what is queued is lost unless it is shut down"]
pub struct Telemetry(Providers);

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Telemetry").field("exports", &self.0.metrics.is_some()).finish()
    }
}

/// Starts logs and export for the whole process. Call it once, inside the runtime.
///
/// # Errors
/// The configuration has faults that [`Config::complaints`] cannot see, or telemetry is started already.
pub fn start(config: &Config, service: &Service) -> Result<Telemetry, TelemetryError> {
    let colour = std::io::stderr().is_terminal();
    let (dispatch, telemetry) = dispatch(config, service, std::io::stderr, colour)?;
    tracing::dispatcher::set_global_default(dispatch).map_err(|_| TelemetryError::Started)?;
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    opentelemetry::global::set_tracer_provider(telemetry.0.traces.clone());
    if let Some(metrics) = &telemetry.0.metrics {
        opentelemetry::global::set_meter_provider(metrics.clone());
    }
    log_panics();
    Ok(telemetry)
}

impl Telemetry {
    /// Sends what is queued, for 2 s at most; what a dead collector has not taken is lost.
    pub async fn shutdown(self) {
        if !self.0.shutdown(SHUTDOWN_WITHIN).await {
            tracing::warn!("some telemetry was not delivered; is the collector at telemetry.endpoint up?");
        }
    }
}

fn dispatch<W>(
    config: &Config,
    service: &Service,
    writer: W,
    colour: bool,
) -> Result<(Dispatch, Telemetry), TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let providers = Providers::new(config, service)?;
    // The SDK tells of its own inner life; only its complaints are of use, unless the operator says otherwise.
    let filter = EnvFilter::builder()
        .parse(format!("opentelemetry=warn,{}", config.log))
        .map_err(|error| TelemetryError::Filter(error.to_string()))?;
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match config.log_format {
        LogFormat::Human => fmt::layer().with_writer(writer).with_ansi(colour).boxed(),
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(writer).boxed(),
    };
    let spans = tracing_opentelemetry::layer().with_tracer(providers.traces.tracer("muster"));
    let records = providers.logs.as_ref().map(|logs| OpenTelemetryTracingBridge::new(logs).with_filter(exported()));
    let registry =
        Registry::default().with(lines.with_filter(filter)).with(spans.with_filter(exported())).with(records);
    Ok((Dispatch::new(registry), Telemetry(providers)))
}

/// What is exported. The exporter's own stack is left out, or it would trace itself without end.
fn exported() -> Targets {
    let own = ["h2", "hyper", "tonic", "tower", "opentelemetry"].map(|target| (target, LevelFilter::OFF));
    Targets::new().with_default(LevelFilter::INFO).with_targets(own).with_target("tower_http", LevelFilter::INFO)
}

/// A panic is a log line like any other, in its format and with its trace.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = panic.payload_as_str().unwrap_or("without a message");
        tracing::error!(location, panic = text, "panicked");
    }));
}
