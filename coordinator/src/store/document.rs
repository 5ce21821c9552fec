//! How a document looks at rest: JSON inside an envelope that names its version.

use muster_domain::job::Job;
use muster_domain::node::NodeRecord;
use serde::{Deserialize, Serialize};

/// The version this program writes. Readers accept every version up to it.
pub const VERSION: u32 = 1;

/// Why stored bytes are not a document.
#[derive(Debug, thiserror::Error)]
pub enum BadDocument {
    /// Not the JSON we write.
    #[error("it is not a document of this program: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Written by a later version.
    #[error("it was written by a newer version (document version {0}, known up to {VERSION}); run that version")]
    Newer(u32),
}

#[derive(Serialize)]
struct OutgoingJob<'a> {
    v: u32,
    job: &'a Job,
}

#[derive(Serialize)]
struct OutgoingNode<'a> {
    v: u32,
    node: &'a NodeRecord,
}

/// The version alone, read first: a newer document may not parse as ours.
#[derive(Deserialize)]
struct Envelope {
    v: u32,
}

#[derive(Deserialize)]
struct IncomingJob {
    job: Job,
}

#[derive(Deserialize)]
struct IncomingNode {
    node: NodeRecord,
}

/// The bytes of a job's document.
pub fn encode(job: &Job) -> Result<Vec<u8>, BadDocument> {
    Ok(serde_json::to_vec(&OutgoingJob { v: VERSION, job })?)
}

/// The bytes of a node's document.
pub fn encode_node(node: &NodeRecord) -> Result<Vec<u8>, BadDocument> {
    Ok(serde_json::to_vec(&OutgoingNode { v: VERSION, node })?)
}

/// The job's document in these bytes.
pub fn decode(bytes: &[u8]) -> Result<Job, BadDocument> {
    known_version(bytes)?;
    let IncomingJob { job } = serde_json::from_slice(bytes)?;
    Ok(job)
}

/// The node's document in these bytes.
pub fn decode_node(bytes: &[u8]) -> Result<NodeRecord, BadDocument> {
    known_version(bytes)?;
    let IncomingNode { node } = serde_json::from_slice(bytes)?;
    Ok(node)
}

fn known_version(bytes: &[u8]) -> Result<(), BadDocument> {
    let Envelope { v } = serde_json::from_slice(bytes)?;
    if v > VERSION { Err(BadDocument::Newer(v)) } else { Ok(()) }
}
