use super::*;
use logs::logs_service_server::{LogsService, LogsServiceServer};
use metrics::metrics_service_server::{MetricsService, MetricsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1 as logs;
use opentelemetry_proto::tonic::collector::metrics::v1 as metrics;
use opentelemetry_proto::tonic::collector::trace::v1 as trace;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::net::TcpListener;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};
use trace::trace_service_server::{TraceService, TraceServiceServer};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn config(endpoint: Option<String>) -> Config {
    Config {
        log: "info".into(),
        log_format: LogFormat::Json,
        endpoint,
        ca_file: None,
        trace_ratio: 1.0,
        metrics_interval_ms: 60_000,
    }
}

fn service() -> Service {
    Service { name: "muster-test", version: "1.2.3", instance: "one".into() }
}

/// What a test's log lines go to.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn dispatch(&self, config: &Config) -> (Dispatch, Telemetry) {
        let lines = self.clone();
        dispatch(config, &service(), move || lines.clone(), false).unwrap()
    }
}

/// A collector that keeps what it is sent.
#[derive(Clone, Default)]
struct Collector {
    traces: Arc<Mutex<Vec<trace::ExportTraceServiceRequest>>>,
    metrics: Arc<Mutex<Vec<metrics::ExportMetricsServiceRequest>>>,
    logs: Arc<Mutex<Vec<logs::ExportLogsServiceRequest>>>,
}

macro_rules! collect {
    ($service:ident, $request:ty, $response:ty, $field:ident) => {
        #[tonic::async_trait]
        impl $service for Collector {
            async fn export(&self, request: Request<$request>) -> Result<Response<$response>, Status> {
                self.$field.lock().unwrap().push(request.into_inner());
                Ok(Response::new(Default::default()))
            }
        }
    };
}
collect!(TraceService, trace::ExportTraceServiceRequest, trace::ExportTraceServiceResponse, traces);
collect!(MetricsService, metrics::ExportMetricsServiceRequest, metrics::ExportMetricsServiceResponse, metrics);
collect!(LogsService, logs::ExportLogsServiceRequest, logs::ExportLogsServiceResponse, logs);

impl Collector {
    async fn listen(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(self.clone()))
            .add_service(MetricsServiceServer::new(self.clone()))
            .add_service(LogsServiceServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)));
        format!("http://{address}")
    }
}

fn attribute(resource: &Resource, name: &str) -> String {
    let found = resource.attributes.iter().find(|attribute| attribute.key == name);
    match found.and_then(|attribute| attribute.value.clone()?.value) {
        Some(Value::StringValue(text)) => text,
        other => panic!("{name}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_three_signals_reach_a_collector_with_the_trace_of_the_caller() {
    let collector = Collector::default();
    let lines = Lines::default();
    let (dispatch, telemetry) = lines.dispatch(&config(Some(collector.listen().await)));
    let meter = opentelemetry::metrics::MeterProvider::meter(telemetry.0.metrics.as_ref().unwrap(), "test");
    meter.u64_counter("muster.test").build().add(3, &[]);
    tracing::dispatcher::with_default(&dispatch, || {
        let span = tracing::info_span!("placement");
        continue_from(&span, Some(PARENT));
        span.in_scope(|| tracing::info!(ranks = 4, "placed"));
    });
    telemetry.shutdown().await;

    let traces = collector.traces.lock().unwrap();
    let spans = &traces[0].resource_spans[0];
    let resource = spans.resource.as_ref().unwrap();
    let told = ["service.name", "service.version", "service.instance.id"].map(|name| attribute(resource, name));
    assert_eq!(told, ["muster-test", "1.2.3", "one"]);
    let span = &spans.scope_spans[0].spans[0];
    assert_eq!(span.name, "placement");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(&span.trace_id), &PARENT[3..35]);
    assert_eq!(hex(&span.parent_span_id), &PARENT[36..52]);
    let logs = collector.logs.lock().unwrap();
    let record = &logs[0].resource_logs[0].scope_logs[0].log_records[0];
    assert_eq!(record.trace_id, span.trace_id);
    let metrics = collector.metrics.lock().unwrap();
    assert_eq!(metrics[0].resource_metrics[0].scope_metrics[0].metrics[0].name, "muster.test");
    let line = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(line.contains(r#""message":"placed""#) && line.contains(r#""ranks":4"#), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_stalls_neither_work_nor_the_end() {
    // Accepts into its backlog, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let (dispatch, telemetry) = Lines::default().dispatch(&config(Some(endpoint)));
    let begin = Instant::now();
    tracing::dispatcher::with_default(&dispatch, || {
        for number in 0..5_000 {
            tracing::info_span!("step").in_scope(|| tracing::info!(number, "done"));
        }
    });
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    let begin = Instant::now();
    telemetry.shutdown().await;
    assert!(begin.elapsed() < Duration::from_millis(2_500), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn without_a_collector_the_context_still_passes() {
    let (dispatch, telemetry) = Lines::default().dispatch(&config(None));
    tracing::dispatcher::with_default(&dispatch, || {
        assert_eq!(current_traceparent(), None);
        let span = tracing::info_span!("placement");
        continue_from(&span, Some(PARENT));
        let inner = span.in_scope(current_traceparent).unwrap();
        assert_eq!((&inner[..35], &inner[52..]), (&PARENT[..35], &PARENT[52..]));
        assert_ne!(inner, PARENT);
        assert_eq!(traceparent_of(&span), Some(inner));

        let mut metadata = MetadataMap::new();
        span.in_scope(|| inject(&mut metadata));
        let served = tracing::info_span!("served");
        continue_from_metadata(&served, &metadata);
        let served = traceparent_of(&served).unwrap();
        assert_eq!(served[..35], PARENT[..35]);

        let fresh = tracing::info_span!("fresh");
        for malformed in [None, Some(""), Some("00-zz-1-01"), Some("ü")] {
            continue_from(&fresh, malformed);
        }
        assert!(traceparent_of(&fresh).is_some_and(|fresh| fresh.len() == 55 && fresh[..35] != PARENT[..35]));
    });
    telemetry.shutdown().await;
}

#[test]
fn faults_of_the_configuration_are_named() {
    let keys = |config: Config| config.complaints().into_iter().map(|complaint| complaint.key).collect::<Vec<_>>();
    assert_eq!(keys(config(None)), Vec::<String>::new());
    assert_eq!(keys(Config { log: "muster=loud".into(), ..config(None) }), ["telemetry.log"]);
    assert_eq!(keys(config(Some("https://collector".into()))), ["telemetry.ca_file"]);
    assert_eq!(keys(Config { ca_file: Some("/ca".into()), ..config(None) }), ["telemetry.endpoint"]);
    assert_eq!(keys(Config { metrics_interval_ms: 1, ..config(None) }), ["telemetry.metrics_interval_ms"]);
}
