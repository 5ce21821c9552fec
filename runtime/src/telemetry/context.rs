//! Trace context between processes: W3C `traceparent` as text, and in gRPC metadata.
//!
//! All of it works, without export, while no collector is configured, so that a trace begun elsewhere goes on behind us.

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::metadata::{Ascii, MetadataKey, MetadataMap, MetadataValue};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

const TRACEPARENT: &str = "traceparent";

/// The context that a `traceparent` tells of; an empty one if there is none or it is malformed.
#[must_use]
pub fn span_parent(traceparent: Option<&str>) -> Context {
    TraceContextPropagator::new().extract(&Text(traceparent))
}

/// Makes `span` a child of `traceparent`. Call it before the span is entered; does nothing without a valid one.
pub fn continue_from(span: &Span, traceparent: Option<&str>) {
    if traceparent.is_some() {
        set_parent(span, span_parent(traceparent));
    }
}

/// The `traceparent` of the present span; `None` outside of any.
#[must_use]
pub fn current_traceparent() -> Option<String> {
    traceparent_of(&Span::current())
}

/// The `traceparent` of a span; `None` if it is disabled.
#[must_use]
pub fn traceparent_of(span: &Span) -> Option<String> {
    struct Taken(Option<String>);
    impl Injector for Taken {
        fn set(&mut self, key: &str, value: String) {
            if key == TRACEPARENT {
                self.0 = Some(value);
            }
        }
    }
    let mut taken = Taken(None);
    TraceContextPropagator::new().inject_context(&span.context(), &mut taken);
    taken.0
}

/// Puts the present span's context into the metadata of a call.
pub fn inject(metadata: &mut MetadataMap) {
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut Outgoing(metadata));
}

/// Makes `span` a child of what the caller's metadata tells of.
pub fn continue_from_metadata(span: &Span, metadata: &MetadataMap) {
    if metadata.contains_key(TRACEPARENT) {
        set_parent(span, TraceContextPropagator::new().extract(&Incoming(metadata)));
    }
}

fn set_parent(span: &Span, parent: Context) {
    if let Err(error) = span.set_parent(parent) {
        // A disabled span, or one that has begun: the trace has a gap, nothing else is wrong.
        tracing::debug!(%error, "trace is not continued");
    }
}

struct Text<'a>(Option<&'a str>);

impl Extractor for Text<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.filter(|_| key == TRACEPARENT)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

struct Outgoing<'a>(&'a mut MetadataMap);

impl Injector for Outgoing<'_> {
    fn set(&mut self, key: &str, value: String) {
        let key = MetadataKey::<Ascii>::from_bytes(key.as_bytes());
        if let (Ok(key), Ok(value)) = (key, MetadataValue::try_from(value)) {
            self.0.insert(key, value);
        }
    }
}

struct Incoming<'a>(&'a MetadataMap);

impl Extractor for Incoming<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT, "tracestate"]
    }
}
