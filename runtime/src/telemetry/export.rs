//! Export over OTLP: the providers of the three signals, and their end.

use super::{Config, Service, TelemetryError};
use opentelemetry::KeyValue;
use opentelemetry_otlp::{LogExporter, MetricExporter, SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use std::time::Duration;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

/// Longest time for one export. What the collector does not take meanwhile is dropped; queues are bounded.
const EXPORT_WITHIN: Duration = Duration::from_secs(3);
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// The providers. Logs and metrics exist only while a collector is configured; traces always, since context must pass.
pub(super) struct Providers {
    pub(super) traces: SdkTracerProvider,
    pub(super) metrics: Option<SdkMeterProvider>,
    pub(super) logs: Option<SdkLoggerProvider>,
}

impl Providers {
    pub(super) fn new(config: &Config, service: &Service) -> Result<Self, TelemetryError> {
        let resource = Resource::builder()
            .with_service_name(service.name)
            .with_attribute(KeyValue::new("service.version", service.version))
            .with_attribute(KeyValue::new("service.instance.id", service.instance.clone()))
            .build();
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.trace_ratio)));
        let traces = SdkTracerProvider::builder().with_resource(resource.clone()).with_sampler(sampler);
        let Some(endpoint) = &config.endpoint else {
            return Ok(Self { traces: traces.build(), metrics: None, logs: None });
        };
        let channel = channel(endpoint, config)?;
        let failed = |error: opentelemetry_otlp::ExporterBuildError| TelemetryError::Exporter(error.to_string());
        let spans = SpanExporter::builder().with_tonic().with_channel(channel.clone()).with_timeout(EXPORT_WITHIN);
        let points = MetricExporter::builder().with_tonic().with_channel(channel.clone()).with_timeout(EXPORT_WITHIN);
        let records = LogExporter::builder().with_tonic().with_channel(channel).with_timeout(EXPORT_WITHIN);
        let interval = Duration::from_millis(config.metrics_interval_ms);
        let reader = PeriodicReader::builder(points.build().map_err(failed)?).with_interval(interval).build();
        Ok(Self {
            traces: traces.with_batch_exporter(spans.build().map_err(failed)?).build(),
            metrics: Some(SdkMeterProvider::builder().with_resource(resource.clone()).with_reader(reader).build()),
            logs: Some(
                SdkLoggerProvider::builder()
                    .with_resource(resource)
                    .with_batch_exporter(records.build().map_err(failed)?)
                    .build(),
            ),
        })
    }

    /// Sends what is queued and ends the exporters, all three at once, in `within` at most. `false`: some of it is lost.
    pub(super) async fn shutdown(self, within: Duration) -> bool {
        let Self { traces, metrics, logs } = self;
        let mut ends: Vec<Box<dyn FnOnce() -> bool + Send>> =
            vec![Box::new(move || traces.shutdown_with_timeout(within).is_ok())];
        if let Some(metrics) = metrics {
            ends.push(Box::new(move || metrics.shutdown_with_timeout(within).is_ok()));
        }
        if let Some(logs) = logs {
            ends.push(Box::new(move || logs.shutdown_with_timeout(within).is_ok()));
        }
        let (tell, mut told) = tokio::sync::mpsc::channel(ends.len());
        let count = ends.len();
        for end in ends {
            let tell = tell.clone();
            // Threads of our own: the runtime waits for its blocking ones when it ends, and not every shutdown keeps
            // its bound. Tasks of the runtime must go on meanwhile, since they carry the exporters' connections.
            std::thread::spawn(move || {
                // Whoever waited may have given up.
                let _ = tell.try_send(end());
            });
        }
        let all = async {
            let mut fine = true;
            for _ in 0..count {
                fine &= told.recv().await.unwrap_or(false);
            }
            fine
        };
        tokio::time::timeout(within, all).await.unwrap_or(false)
    }
}

fn channel(endpoint: &str, config: &Config) -> Result<Channel, TelemetryError> {
    let wrong = |error: tonic::transport::Error| TelemetryError::Endpoint(error.to_string());
    let mut builder = Endpoint::from_shared(endpoint.to_owned())
        .map_err(wrong)?
        .connect_timeout(CONNECT_WITHIN)
        .timeout(EXPORT_WITHIN);
    if let Some(path) = &config.ca_file {
        let unreadable = |error| TelemetryError::Authority { path: path.clone(), error };
        let authority = Certificate::from_pem(std::fs::read(path).map_err(unreadable)?);
        builder = builder.tls_config(ClientTlsConfig::new().ca_certificate(authority)).map_err(wrong)?;
    }
    Ok(builder.connect_lazy())
}
