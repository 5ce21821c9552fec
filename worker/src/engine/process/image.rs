//! Images of the process engine: folders.

use crate::engine::{EngineError, Fault};
use std::path::{Path, PathBuf};

/// The folder of an image, `acme/batch/1.0.0` for `acme/batch:1.0.0`, if it is there.
pub(super) fn folder_of(images_dir: &Path, reference: &str) -> Result<PathBuf, EngineError> {
    let refuse = |why: &str| EngineError { fault: Fault::Job, message: format!("the image `{reference}` {why}") };
    // A colon after the last slash begins the tag; one before it belongs to a registry's port.
    let tagged = reference.rfind(':').filter(|colon| reference.rfind('/').is_none_or(|slash| slash < *colon));
    let (name, tag) = match tagged {
        Some(colon) => (&reference[..colon], &reference[colon + 1..]),
        None => (reference, "latest"),
    };
    let mut folder = images_dir.to_path_buf();
    for part in name.split('/').chain([tag]) {
        let plain = !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte));
        if !plain {
            return Err(refuse("is not a usable reference: expected name:version, such as acme/batch:1.0.0"));
        }
        folder.push(part);
    }
    if folder.is_dir() { Ok(folder) } else { Err(refuse("is not installed")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_names_a_folder_below_the_images() {
        let images = tempfile::tempdir().unwrap();
        let batch = images.path().join("acme/batch/1.0.0");
        std::fs::create_dir_all(&batch).unwrap();
        std::fs::create_dir_all(images.path().join("tool/latest")).unwrap();
        assert_eq!(folder_of(images.path(), "acme/batch:1.0.0").unwrap(), batch);
        assert_eq!(folder_of(images.path(), "tool").unwrap(), images.path().join("tool/latest"));
        let error = folder_of(images.path(), "acme/batch:2.0.0").unwrap_err();
        assert_eq!(error.to_string(), "the image `acme/batch:2.0.0` is not installed");
        assert_eq!(error.fault, Fault::Job);
        for bad in ["", "../x", "a/../b", "a:..", "/etc", "a//b", "a b", "a:", "a/b/"] {
            let message = folder_of(images.path(), bad).unwrap_err().message;
            assert!(message.contains("not a usable reference"), "{bad}: {message}");
        }
    }
}
