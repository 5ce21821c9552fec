//! What every resource of Core has: owner, permissions, updates (protocol 3.1).

use super::lenient;
use serde::{Deserialize, Serialize};

/// Who owns a resource, and pays for it: the project if there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceOwner {
    /// The user.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub created_by: String,
    /// The project.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub project: Option<String>,
}

/// What somebody may do with a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Permission {
    /// Look at it. Can be granted.
    Read,
    /// Change it. Can be granted.
    Edit,
    /// Own it.
    Admin,
    /// Provide it.
    Provider,
}

/// What the caller and others may do with a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourcePermissions {
    /// The caller.
    #[serde(default, deserialize_with = "lenient::known_list")]
    pub myself: Vec<Permission>,
    /// Others, if asked for.
    #[serde(default)]
    pub others: Option<Vec<ResourceAclEntry>>,
}

/// What one entity may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceAclEntry {
    /// Who.
    pub entity: AclEntity,
    /// What.
    #[serde(default, deserialize_with = "lenient::known_list")]
    pub permissions: Vec<Permission>,
}

/// Somebody who can be granted something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum AclEntity {
    /// A group of a project.
    ProjectGroup {
        /// The project.
        project_id: String,
        /// The group.
        group: String,
    },
    /// A user.
    User {
        /// The user's name.
        username: String,
    },
}

/// One item of `updateAcl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdatedAclWithResource<R> {
    /// The resource, with its old permissions.
    pub resource: R,
    /// What was granted.
    #[serde(default = "Vec::new", deserialize_with = "lenient::list")]
    pub added: Vec<ResourceAclEntry>,
    /// Who lost everything.
    #[serde(default = "Vec::new", deserialize_with = "lenient::list")]
    pub deleted: Vec<AclEntity>,
}

/// One item of the control call `update`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceUpdateAndId<U> {
    /// The resource.
    #[serde(deserialize_with = "lenient::required")]
    pub id: String,
    /// What is new about it.
    pub update: U,
}

/// `init` of a resource API: somebody is about to use it. A later addition (protocol 3.5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceInitializationRequest {
    /// Who.
    #[serde(default, deserialize_with = "lenient::object")]
    pub principal: ResourceOwner,
}

/// A product and what its provider supports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "P: Deserialize<'de> + Default, S: Deserialize<'de> + Default"))]
pub struct ResolvedSupport<P, S> {
    /// The product, without a `type`.
    #[serde(default, deserialize_with = "lenient::object")]
    pub product: P,
    /// The support.
    #[serde(default, deserialize_with = "lenient::object")]
    pub support: S,
}
