//! What UCloud/Core says on the wire and what it expects to hear, without any IO.
//!
//! One module per dialect, because Core's wire has changed over the years and a site runs exactly one Core:
//! [`v2021`] is the wire of the October and December 2021 documentation. A dialect holds the types of every call, the
//! rules that turn a job into something that can run ([`v2021::accept`], [`v2021::command`]), and the words by which
//! the domain's decisions are told to Core and its users ([`v2021::words`]).
//!
//! Decoding is liberal: unknown keys are ignored, and a missing key or a `null` is taken as the default where one is
//! plausible. Encoding is exact: every field of the documented shape, with nulls.

pub mod v2021;
