//! From what Core asks for to what the domain takes: every check of a `create`.

use super::application::ApplicationInvocation;
use super::arguments::Arguments;
use super::command;
use super::envelope::BulkResponse;
use super::job::{Job, JobSpecification};
use super::problem::{Problem, excerpt};
use super::product::ProductReference;
use super::support::{ComputeSupport, DockerSupport, VirtualMachineSupport};
use super::tool::ToolBackend;
use super::value::AppParameterValue;
use muster_domain::id::{JobId, ProviderId};
use muster_domain::job::spec::{ContainerSpec, JobSpec, Owner, Price};
use muster_domain::product::{Product, ProductRef};
use std::collections::BTreeMap;

/// Bytes of an accepted job as JSON, so that its document with all ranks stays below 256 KiB (reliability F13).
pub const MOST_SPEC_BYTES: usize = 192 * 1024;
/// Bytes of a name, version, user or project.
const MOST_NAME_BYTES: usize = 1024;
/// Bytes of an image's name.
const MOST_IMAGE_BYTES: usize = 512;
/// Bytes of a `traceparent`; the standard's form has 55.
const MOST_TRACE_BYTES: usize = 128;

/// What an operator offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalogue {
    /// This provider.
    pub provider: ProviderId,
    /// The machine types.
    pub products: Vec<Product>,
    /// The most ranks of one job.
    pub max_replicas: u32,
    /// The length of a charge window, in milliseconds; shorter than a product's period means one period.
    pub window_ms: u64,
}

/// What this provider's containers can do today.
#[must_use]
pub fn offered() -> DockerSupport {
    DockerSupport {
        enabled: Some(true),
        web: Some(false),
        vnc: Some(false),
        logs: Some(true),
        terminal: Some(false),
        peers: Some(false),
        time_extension: Some(true),
        utilization: Some(true),
    }
}

impl Catalogue {
    /// The answer to `retrieveProducts`: an entry for every product, or Core refuses its jobs and even its charges
    /// (protocol 4.1). Virtual machines stay null, because Core refuses whatever says otherwise.
    #[must_use]
    pub fn support(&self) -> BulkResponse<ComputeSupport> {
        let entry = |product: &Product| ComputeSupport {
            product: ProductReference {
                id: product.id.clone(),
                category: product.category.clone(),
                provider: self.provider.to_string(),
            },
            docker: offered(),
            virtual_machine: VirtualMachineSupport::default(),
        };
        BulkResponse::of(self.products.iter().map(entry).collect())
    }

    /// Checks a job and takes it. The problem names the field inside the job; [`Problem::at`] adds the item's number.
    /// `traceparent` is the request's; one that is too long or not ASCII is dropped, since it is no part of the job.
    pub fn accept(&self, job: &Job, traceparent: Option<String>) -> Result<JobSpec, Problem> {
        let id = JobId::new(job.id.as_str()).map_err(|error| Problem::invalid(format!("id: {error}")))?;
        let asked = &job.specification;
        let product = self.product(&asked.product)?;
        let replicas = self.replicas(asked.replicas)?;
        let time_limit_ms = match &asked.time_allocation {
            Some(duration) => Some(duration.positive_ms("specification.timeAllocation")?),
            None => None,
        };
        let spec = JobSpec {
            id,
            owner: Owner {
                created_by: short("owner.createdBy", &job.owner.created_by)?,
                project: optional_short("owner.project", job.owner.project.as_deref())?,
            },
            name: optional_short("specification.name", asked.name.as_deref())?,
            application: application_name(asked)?,
            product: ProductRef {
                id: product.id.clone(),
                category: product.category.clone(),
                provider: self.provider.clone(),
            },
            replicas,
            time_limit_ms,
            container: container(job)?,
            per_rank: product.per_rank(),
            price: self.price(product),
            traceparent: traceparent.filter(|text| text.len() <= MOST_TRACE_BYTES && text.is_ascii()),
        };
        bounded(spec)
    }

    fn product(&self, asked: &ProductReference) -> Result<&Product, Problem> {
        if asked.provider != self.provider.as_str() {
            let found = excerpt(&asked.provider, 80);
            return Err(Problem::invalid(format!(
                "specification.product.provider: expected {:?}, found {found:?}",
                self.provider.as_str()
            )));
        }
        self.products.iter().find(|known| known.id == asked.id && known.category == asked.category).ok_or_else(|| {
            let (id, category) = (excerpt(&asked.id, 80), excerpt(&asked.category, 80));
            Problem::invalid(format!(
                "specification.product.id: expected a product of this provider, found {id:?} of category {category:?}"
            ))
        })
    }

    fn replicas(&self, asked: i64) -> Result<u32, Problem> {
        u32::try_from(asked).ok().filter(|replicas| (1..=self.max_replicas).contains(replicas)).ok_or_else(|| {
            Problem::invalid(format!("specification.replicas: expected 1 to {}, found {asked}", self.max_replicas))
        })
    }

    fn price(&self, product: &Product) -> Price {
        Price {
            period: product.period,
            units_per_period: if product.charge_per_core { product.cores.max(1) } else { 1 },
            window_periods: u32::try_from(self.window_ms / product.period.ms()).unwrap_or(u32::MAX).max(1),
        }
    }
}

fn application_name(asked: &JobSpecification) -> Result<String, Problem> {
    let name = short("specification.application.name", &asked.application.name)?;
    if name.is_empty() {
        return Err(Problem::invalid("specification.application.name: expected the name of an application"));
    }
    let version = short("specification.application.version", &asked.application.version)?;
    Ok(format!("{name} {version}").trim_end().to_owned())
}

fn container(job: &Job) -> Result<ContainerSpec, Problem> {
    let Some(application) = &job.status.resolved_application else {
        return Err(Problem::invalid("status.resolvedApplication: expected the application, found nothing"));
    };
    let app = &application.invocation;
    let none = BTreeMap::new();
    let given = job.specification.parameters.as_ref().unwrap_or(&none);
    let image = image(app)?;
    let arguments = Arguments::resolve(app, given)?;
    can_be_bound(job, &arguments)?;
    let needs = app.container.unwrap_or_default();
    Ok(ContainerSpec {
        image,
        argv: command::command_line_of(app, &arguments)?,
        env: command::environment_of(app, &arguments)?,
        in_work_directory: needs.change_working_directory,
        as_root: needs.run_as_root,
    })
}

fn image(app: &ApplicationInvocation) -> Result<String, Problem> {
    const TOOL: &str = "status.resolvedApplication.invocation.tool.tool";
    let Some(tool) = &app.tool.tool else {
        return Err(Problem::invalid(format!("{TOOL}: expected the tool, found nothing")));
    };
    if tool.description.backend != ToolBackend::Docker {
        let found = match &tool.description.backend {
            ToolBackend::Other(name) => excerpt(name, 80),
            known => format!("{known:?}"),
        };
        return Err(Problem::unsupported(format!("{TOOL}.description.backend: expected DOCKER, found {found}")));
    }
    let Some(image) = tool.description.image_to_run() else {
        return Err(Problem::invalid(format!(
            "{TOOL}.description.image: expected the name of an image, found nothing"
        )));
    };
    // An engine must not take it for an option, nor a log line for two.
    let clean = image.len() <= MOST_IMAGE_BYTES
        && !image.starts_with('-')
        && !image.contains(|c: char| c.is_whitespace() || c.is_control());
    if clean {
        Ok(image.to_owned())
    } else {
        let found = excerpt(image, 80);
        Err(Problem::invalid(format!(
            "{TOOL}.description.image: expected at most {MOST_IMAGE_BYTES} bytes without blanks, found {found:?}"
        )))
    }
}

/// Refuses what this provider cannot mount or bind yet: files, peers, links, addresses, licences (protocol 8.10: those
/// of a job are the union of its resources and its parameters).
fn can_be_bound(job: &Job, arguments: &Arguments<'_>) -> Result<(), Problem> {
    let resources = job.specification.resources.iter().flatten().enumerate();
    let resources = resources.map(|(index, value)| (format!("specification.resources[{index}]"), value));
    let given = job.specification.parameters.iter().flatten().map(|(name, value)| (name.as_str(), value));
    let parameters = arguments.values().chain(given);
    let parameters = parameters.map(|(name, value)| (format!("specification.parameters.{}", excerpt(name, 80)), value));
    for (field, value) in resources.chain(parameters) {
        let what = match value {
            AppParameterValue::File { .. } => "mount files",
            AppParameterValue::Peer { .. } => "connect a job to another one",
            AppParameterValue::Ingress { .. } => "bind public links",
            AppParameterValue::Network { .. } => "bind public addresses",
            AppParameterValue::LicenseServer { .. } => "bind licences",
            AppParameterValue::BlockStorage { .. } => "mount block storage",
            AppParameterValue::Other(_) => {
                let found = excerpt(value.kind(), 80);
                return Err(Problem::invalid(format!("{field}: expected a value of a known type, found {found:?}")));
            }
            _ => continue,
        };
        return Err(Problem::unsupported(format!(
            "{field}: this provider cannot {what} yet; start the job without it"
        )));
    }
    Ok(())
}

fn optional_short(field: &str, text: Option<&str>) -> Result<Option<String>, Problem> {
    text.map(|text| short(field, text)).transpose()
}

/// A text for people and lists: short, and without control characters that would write into a terminal.
fn short(field: &str, text: &str) -> Result<String, Problem> {
    if text.len() > MOST_NAME_BYTES || text.chars().any(char::is_control) {
        return Err(Problem::invalid(format!(
            "{field}: expected at most {MOST_NAME_BYTES} bytes without control characters"
        )));
    }
    Ok(text.to_owned())
}

fn bounded(spec: JobSpec) -> Result<JobSpec, Problem> {
    let bytes = serde_json::to_vec(&spec).map_or(usize::MAX, |text| text.len());
    if bytes > MOST_SPEC_BYTES {
        return Err(Problem::invalid(format!(
            "specification: expected command line and environment of at most {MOST_SPEC_BYTES} bytes as JSON, found {bytes}"
        )));
    }
    Ok(spec)
}
