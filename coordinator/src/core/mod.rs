//! The control client: what Muster says to Core.

pub mod backoff;
pub mod client;
pub mod delivery;
pub mod outbox;
pub mod token;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
