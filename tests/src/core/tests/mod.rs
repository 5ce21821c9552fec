//! Each rule of Core's judgement over real HTTP, against a provider of a few lines.

mod accounting;
mod faults;
mod jobs;
mod logs;
mod provider;
mod queries;
mod submission;
mod updates;
