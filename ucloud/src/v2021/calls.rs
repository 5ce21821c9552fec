//! Where calls go: paths and full names (protocol 0, 1.1).

use muster_domain::id::ProviderId;

/// Statuses by which a provider asks Core to make sure of the user and come again (protocol 1.4). Only to be said when
/// nothing was applied (protocol 16.12).
pub const RETRY_WITH: u16 = 449;

/// `POST`: a provider's refresh token for an access token.
pub const REFRESH: &str = "/auth/providers/refresh";
/// `GET`: one job.
pub const CONTROL_RETRIEVE: &str = "/api/jobs/control/retrieve";
/// `GET`: our jobs.
pub const CONTROL_BROWSE: &str = "/api/jobs/control/browse";
/// `POST`: news about jobs.
pub const CONTROL_UPDATE: &str = "/api/jobs/control/update";
/// `POST`: charges.
pub const CONTROL_CHARGE: &str = "/api/jobs/control/chargeCredits";
/// `POST`: jobs that started here.
pub const CONTROL_REGISTER: &str = "/api/jobs/control/register";
/// `GET`: products.
pub const PRODUCTS_BROWSE: &str = "/api/products/browse";
/// `GET`: one product.
pub const PRODUCTS_RETRIEVE: &str = "/api/products/retrieve";
/// `POST`: new products, or new versions.
pub const PRODUCTS_CREATE: &str = "/api/products";
/// `POST`: a user is connected.
pub const APPROVE_CONNECTION: &str = "/api/providers/integration/control/approveConnection";
/// `POST`: a provider introduces itself.
pub const REQUEST_APPROVAL: &str = "/api/providers/requestApproval";
/// `GET`: who was granted something.
pub const DEPOSITS_RETRIEVE: &str = "/api/accounting/depositNotifications/retrieve";
/// `POST`: deposit notifications that need not come again.
pub const DEPOSITS_MARK_AS_READ: &str = "/api/accounting/depositNotifications/markAsRead";

/// The path of `create` and `delete`; every other ingoing call about jobs is below it.
#[must_use]
pub fn jobs(provider: &ProviderId) -> String {
    format!("/ucloud/{provider}/jobs")
}

/// The full name of `follow` on a WebSocket.
#[must_use]
pub fn follow(provider: &ProviderId) -> String {
    format!("jobs.provider.{provider}.follow")
}

/// The path by which Core connects for `follow`. Calls are told apart by name, not by path (protocol 5.1).
#[must_use]
pub fn follow_path(provider: &ProviderId) -> String {
    format!("/ucloud/jobs.provider.{provider}/websocket")
}

/// The full name of `open` of a terminal on a WebSocket.
#[must_use]
pub fn shell_open(provider: &ProviderId) -> String {
    format!("jobs.compute.{provider}.shell.open")
}

/// The path by which a browser connects for a terminal.
#[must_use]
pub fn shell_path(provider: &ProviderId) -> String {
    format!("/ucloud/{provider}/websocket")
}
