//! How a document looks at rest: JSON inside an envelope that names its version.

use muster_domain::job::Job;
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
struct Outgoing<'a> {
    v: u32,
    job: &'a Job,
}

/// The version alone, read first: a newer document may not parse as ours.
#[derive(Deserialize)]
struct Envelope {
    v: u32,
}

#[derive(Deserialize)]
struct Incoming {
    job: Job,
}

/// A document's bytes.
pub fn encode(job: &Job) -> Result<Vec<u8>, BadDocument> {
    Ok(serde_json::to_vec(&Outgoing { v: VERSION, job })?)
}

/// The document in these bytes.
pub fn decode(bytes: &[u8]) -> Result<Job, BadDocument> {
    let Envelope { v } = serde_json::from_slice(bytes)?;
    if v > VERSION {
        return Err(BadDocument::Newer(v));
    }
    let Incoming { job } = serde_json::from_slice(bytes)?;
    Ok(job)
}
