//! One trace covers a job from Core's request to its charge: coordinator and workers export to a collector that this test
//! plays, over real OTLP.

use super::{LIMIT, run, shell};
use muster_tests::harness::{Engine, Site, SiteOptions, free_port};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::Span;
use std::sync::Arc;
use tokio::sync::watch;

#[derive(Clone)]
struct Collector {
    spans: Arc<watch::Sender<Vec<(String, Span)>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.spans.send_modify(|spans| {
            for resource in request.into_inner().resource_spans {
                let service = resource
                    .resource
                    .iter()
                    .flat_map(|resource| &resource.attributes)
                    .find(|attribute| attribute.key == "service.name")
                    .map(|attribute| format!("{:?}", attribute.value))
                    .unwrap_or_default();
                for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                    spans.push((service.clone(), span));
                }
            }
        });
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_from_request_to_charge() {
    let port = free_port();
    let (spans, mut seen) = watch::channel(Vec::new());
    let service = TraceServiceServer::new(Collector { spans: Arc::new(spans) });
    let address = ([127, 0, 0, 1], port).into();
    let server = tokio::spawn(tonic::transport::Server::builder().add_service(service).serve(address));

    let endpoint = format!("http://127.0.0.1:{port}");
    let options = SiteOptions::new(Engine::Process, 1)
        .coordinator("MUSTER_TELEMETRY_ENDPOINT", &endpoint)
        .worker("MUSTER_TELEMETRY_ENDPOINT", &endpoint);
    let site = Site::start(options).await.unwrap();
    // A whole minute since the second one began, so that there is a charge.
    let script = "touch /work/begun-$(cat /etc/ucloud/rank.txt)
        while [ ! -e /work/begun-0 ] || [ ! -e /work/begun-1 ]; do sleep 0.1; done; sleep 65";
    let job = run(&site, shell(script).replicas(2)).await.unwrap();
    site.wait_until_settled(LIMIT).await.unwrap();
    site.stop().await.unwrap();

    let whole = |spans: &Vec<(String, Span)>| {
        let of_job =
            |span: &Span| span.attributes.iter().any(|a| format!("{:?}", a.value).contains(&format!("\"{}\"", job.id)));
        let Some((_, start)) = spans.iter().find(|(service, span)| service.contains("worker") && of_job(span)) else {
            return false;
        };
        let same: Vec<&(String, Span)> = spans.iter().filter(|(_, span)| span.trace_id == start.trace_id).collect();
        let has = |service: &str, name: &str| {
            same.iter().any(|(from, span)| from.contains(service) && span.name.contains(name))
        };
        has("coordinator", "/jobs")
            && has("worker", "prepare")
            && has("worker", "start")
            && has("coordinator", "core update")
            && has("coordinator", "core charge")
    };
    let found = tokio::time::timeout(LIMIT, seen.wait_for(whole)).await.is_ok();
    let names: Vec<String> =
        seen.borrow().iter().map(|(service, span)| format!("{:02x?} {service} {}", span.trace_id, span.name)).collect();
    assert!(found, "no trace spans coordinator and worker; spans: {names:#?}");
    server.abort();
}
