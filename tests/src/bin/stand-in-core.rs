//! The stand-in Core as a program: for the demo, and for trying a provider by hand.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use muster_tests::core::{Core, CoreOptions};
use serde_json::Value;

/// Plays UCloud/Core of December 2021 towards one compute provider.
///
/// Jobs are submitted with curl, see /stand-in/jobs. Everything but the keys is kept in memory only.
#[derive(Parser)]
#[command(name = "stand-in-core", version)]
struct Arguments {
    /// Where to listen. The interface under /stand-in/ has no password and answers on the loopback address only.
    #[arg(long, env = "STAND_IN_LISTEN", default_value = "127.0.0.1:21100")]
    listen: SocketAddr,
    /// Id of the provider.
    #[arg(long, env = "STAND_IN_PROVIDER_ID", default_value = "example")]
    provider_id: String,
    /// Base URL of the provider.
    #[arg(long, env = "STAND_IN_PROVIDER_URL")]
    provider_url: String,
    /// Directory for the keys; provider-public-key.txt and refresh-token.txt in it are for the provider.
    #[arg(long, env = "STAND_IN_STATE_DIR")]
    state_dir: PathBuf,
    /// Verify every live job this often. Without it as Core does: a scan each 30 s, each job every 5 min.
    #[arg(long, env = "STAND_IN_VERIFY_INTERVAL_MS", value_parser = clap::value_parser!(u64).range(1..))]
    verify_interval_ms: Option<u64>,
    /// JSON file with a list of products (Product.Compute). Without it one product, example-compute-1.
    #[arg(long, env = "STAND_IN_PRODUCTS")]
    products: Option<PathBuf>,
    /// Do not follow the logs of running jobs.
    #[arg(long)]
    no_logs: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let arguments = Arguments::parse();

    let mut options = CoreOptions::new(&arguments.provider_id, &arguments.provider_url);
    options.listen = Some(arguments.listen);
    options.state_dir = Some(arguments.state_dir);
    options.follow_logs = !arguments.no_logs;
    if let Some(interval) = arguments.verify_interval_ms.map(Duration::from_millis) {
        options.verify_scan = interval;
        options.verify_each = interval;
    }
    if let Some(file) = arguments.products {
        let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let list: Vec<Value> = serde_json::from_str(&text)
            .with_context(|| format!("{}: expected a JSON list of products", file.display()))?;
        options.products = list;
    }

    let core = Core::start(options).await?;
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        outcome = tokio::signal::ctrl_c() => outcome?,
        _ = terminated.recv() => {}
    }
    drop(core);
    tracing::info!("stand-in core ends");
    Ok(())
}
