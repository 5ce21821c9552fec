//! Deposit notifications (protocol 7.5).

use super::lenient;
use super::product::ProductCategoryId;
use serde::{Deserialize, Serialize};

/// Somebody was granted something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepositNotification {
    /// Its id, for `markAsRead`.
    #[serde(deserialize_with = "lenient::required")]
    pub id: String,
    /// Who.
    pub owner: WalletOwner,
    /// Of what.
    #[serde(default, deserialize_with = "lenient::object")]
    pub category: ProductCategoryId,
    /// How much there is now.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub balance: i64,
}

/// Who owns a wallet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum WalletOwner {
    /// A user.
    User {
        /// The user's name.
        username: String,
    },
    /// A project.
    Project {
        /// The project's id.
        project_id: String,
    },
}
