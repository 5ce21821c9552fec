//! The fleet protocol between coordinator and worker: generated types, and conversions to those of the domain.
//!
//! Going out is `From`, which cannot fail. Coming in is `TryFrom`, because a stranger may send anything: the error is a
//! [`Malformed`] that names the field and what was expected, and a receiver ends the stream with it.

mod convert;

pub use convert::{Downlink, LogPush, LogSource, Malformed, Uplink};

/// Generated from `fleet/v1/fleet.proto`, where every field is documented.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod v1 {
    tonic::include_proto!("muster.fleet.v1");
}

/// Largest message on the wire, in bytes; both sides set it for both directions. A start for a gang of 1,000 ranks
/// takes about 200 KiB.
pub const MAX_MESSAGE_BYTES: usize = 8 << 20;

/// Largest piece of a log, in bytes.
pub const MAX_LOG_PIECE_BYTES: usize = 32 << 10;

/// Most ranks in one report.
pub const MAX_REPORTED_RANKS: usize = 20_000;

/// Longest reason or other text for people, in bytes; longer ones are cut before they are sent.
pub const MAX_REASON_BYTES: usize = 4096;

/// Longest address of a coordinator, in bytes.
pub const MAX_ADDRESS_BYTES: usize = 1024;

/// gRPC metadata key with which a worker says, as a decimal number, the term whose leader it found gone.
pub const LEFT_TERM: &str = "muster-left-term";

/// gRPC metadata key of the join secret; its value is `Bearer <secret>`.
pub const AUTHORIZATION: &str = "authorization";
