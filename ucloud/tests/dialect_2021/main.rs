//! The dialect of 2021 against the documentation's own examples, an independent model, and hostile input.

mod command_line;
mod decoding;
mod fixtures;
mod frames;
mod refusals;
mod round_trip;
mod vectors;
mod words;
