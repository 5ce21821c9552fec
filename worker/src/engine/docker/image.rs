//! Images: looked at, and pulled where missing and allowed.

use super::Inner;
use super::call::{CallError, LOOK, PULL, call, job_fault};
use super::settings::PullPolicy;
use crate::engine::EngineError;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::TryStreamExt;

impl Inner {
    /// Makes sure that the engine has the image. Returns the working directory that it asks for.
    pub(super) async fn ensure_image(&self, image: &str) -> Result<String, EngineError> {
        if let Some(directory) = self.image_directory(image).await? {
            return Ok(directory);
        }
        match self.settings.pull {
            PullPolicy::Never => {
                return Err(job_fault(format!(
                    "the image {image} could not be found: it is not on this node, and the provider does not pull images"
                )));
            }
            PullPolicy::IfMissing => self.pull(image).await?,
        }
        self.image_directory(image)
            .await?
            .ok_or_else(|| job_fault(format!("the image {image} could not be pulled: the registry gave another one")))
    }

    async fn image_directory(&self, image: &str) -> Result<Option<String>, EngineError> {
        match call(LOOK, self.docker.inspect_image(image)).await {
            Ok(answer) => Ok(Some(answer.config.and_then(|config| config.working_dir).unwrap_or_default())),
            Err(CallError::Missing(_)) => Ok(None),
            Err(CallError::Refused { status: 400, message }) => {
                Err(job_fault(format!("the image {image} could not be found: {message}")))
            }
            Err(error) => Err(error.on(&format!("the image {image} could not be looked at"))),
        }
    }

    async fn pull(&self, image: &str) -> Result<(), EngineError> {
        tracing::info!(image, "pulling image");
        let options = CreateImageOptionsBuilder::new().from_image(&with_tag(image)).build();
        let progress = self.docker.create_image(Some(options), None, None);
        call(PULL, progress.try_for_each(|_| std::future::ready(Ok(())))).await.map_err(|error| {
            let what = format!("the image {image} could not be pulled");
            if is_jobs_fault(&error) { job_fault(format!("{what}: {}", error.message())) } else { error.on(&what) }
        })
    }
}

/// The reference with `:latest` where it names neither tag nor digest: Docker would pull every tag there is.
fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

/// Whether every node would be told the same: the registry says that there is no such image, or not for us. An
/// unreachable registry is not the job's fault.
fn is_jobs_fault(error: &CallError) -> bool {
    let texts = [
        "manifest unknown",
        "pull access denied",
        "repository does not exist",
        "invalid reference format",
        "not found: manifest",
    ];
    match error {
        CallError::Missing(_) | CallError::Refused { status: 400 | 401 | 403, .. } => true,
        CallError::Refused { message, .. } => texts.iter().any(|text| message.contains(text)),
        CallError::Conflict(_) | CallError::Silent(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tag_is_pulled_and_not_all_of_them() {
        assert_eq!(with_tag("busybox"), "busybox:latest");
        assert_eq!(with_tag("registry:5000/a/b"), "registry:5000/a/b:latest");
        assert_eq!(with_tag("registry:5000/a/b:1"), "registry:5000/a/b:1");
        assert_eq!(with_tag("a@sha256:00"), "a@sha256:00");
    }

    #[test]
    fn an_unreachable_registry_is_not_the_jobs_fault() {
        let refused = |status, message: &str| CallError::Refused { status, message: message.into() };
        assert!(is_jobs_fault(&CallError::Missing("pull access denied for x".into())));
        assert!(is_jobs_fault(&refused(400, "invalid reference format")));
        assert!(is_jobs_fault(&refused(0, "manifest unknown: manifest unknown")));
        assert!(!is_jobs_fault(&refused(500, "Get \"https://registry-1.docker.io/v2/\": dial tcp: lookup failed")));
        assert!(!is_jobs_fault(&CallError::Silent("no answer".into())));
    }
}
