//! What a user asks Core for, and the full `Job` of December that Core makes of it (protocol 8).

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::product::ProductReference;

/// A job to submit. Starts from an image and grows by builder methods; everything else has the defaults of the seeds' example.
#[derive(Debug, Clone)]
pub struct JobRequest {
    application: String,
    version: String,
    name: Option<String>,
    image: String,
    application_type: String,
    invocation: Vec<Value>,
    parameters: Vec<Value>,
    values: Map<String, Value>,
    resources: Vec<Value>,
    environment: Map<String, Value>,
    container: Value,
    web: Value,
    vnc: Value,
    replicas: u64,
    time_allocation: Option<(u64, u64, u64)>,
    product: Option<ProductReference>,
    created_by: String,
    project: Option<String>,
    whole: Option<Value>,
}

impl JobRequest {
    /// A batch job that runs `image`, one replica, one hour, for the user `user`.
    pub fn new(image: &str) -> Self {
        Self {
            application: "acme-batch".to_owned(),
            version: "1.0.0".to_owned(),
            name: None,
            image: image.to_owned(),
            application_type: "BATCH".to_owned(),
            invocation: Vec::new(),
            parameters: Vec::new(),
            values: Map::new(),
            resources: Vec::new(),
            environment: Map::new(),
            container: Value::Null,
            web: Value::Null,
            vnc: Value::Null,
            replicas: 1,
            time_allocation: Some((1, 0, 0)),
            product: None,
            created_by: "user".to_owned(),
            project: None,
            whole: None,
        }
    }

    /// A job given whole, in Core's own shape. Only `id` and `createdAt` are replaced, and `status` made that of a new job.
    pub fn whole(job: Value) -> Self {
        Self { whole: Some(job), ..Self::new("") }
    }

    /// Adds words to the command line, each one argument.
    pub fn command<W: AsRef<str>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.invocation.extend(words.into_iter().map(|word| json!({"type": "word", "word": word.as_ref()})));
        self
    }

    /// Adds an element to the command line as the wire has it, for example a `var` (protocol 9.1).
    pub fn invocation(mut self, element: Value) -> Self {
        self.invocation.push(element);
        self
    }

    /// Defines a parameter of the application: an `ApplicationParameter` (protocol 8.9).
    pub fn parameter(mut self, definition: Value) -> Self {
        self.parameters.push(definition);
        self
    }

    /// Gives a value: an `AppParameterValue` (protocol 8.10).
    pub fn value(mut self, name: &str, value: Value) -> Self {
        self.values.insert(name.to_owned(), value);
        self
    }

    /// Attaches a resource: an `AppParameterValue`.
    pub fn resource(mut self, value: Value) -> Self {
        self.resources.push(value);
        self
    }

    /// Mounts a file or folder of UCloud.
    pub fn mount(self, path: &str, read_only: bool) -> Self {
        self.resource(json!({"type": "file", "path": path, "readOnly": read_only}))
    }

    /// Makes another job reachable under `hostname`.
    pub fn peer(self, hostname: &str, job_id: &str) -> Self {
        self.resource(json!({"type": "peer", "hostname": hostname, "jobId": job_id}))
    }

    /// Sets an environment variable to a literal.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), json!({"type": "word", "word": value}));
        self
    }

    /// Number of ranks.
    pub fn replicas(mut self, replicas: u64) -> Self {
        self.replicas = replicas;
        self
    }

    /// Time allocation.
    pub fn time_allocation(mut self, hours: u64, minutes: u64, seconds: u64) -> Self {
        self.time_allocation = Some((hours, minutes, seconds));
        self
    }

    /// No time allocation: the job has no limit.
    pub fn without_time_allocation(mut self) -> Self {
        self.time_allocation = None;
        self
    }

    /// Name and version of the application.
    pub fn application(mut self, name: &str, version: &str) -> Self {
        self.application = name.to_owned();
        self.version = version.to_owned();
        self
    }

    /// Name of the job, chosen by the user.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Product; without it the first of Core's.
    pub fn product(mut self, product: &ProductReference) -> Self {
        self.product = Some(product.clone());
        self
    }

    /// Creator of the job, and the project it is paid from, if any.
    pub fn owner(mut self, created_by: &str, project: Option<&str>) -> Self {
        self.created_by = created_by.to_owned();
        self.project = project.map(str::to_owned);
        self
    }

    /// Makes it a web application on this port of the container.
    pub fn web(mut self, port: u16) -> Self {
        self.application_type = "WEB".to_owned();
        self.web = json!({"port": port});
        self
    }

    /// Makes it a remote desktop on this port of the container.
    pub fn vnc(mut self, port: u16, password: Option<&str>) -> Self {
        self.application_type = "VNC".to_owned();
        self.vnc = json!({"port": port, "password": password});
        self
    }

    /// The `container` settings: `{changeWorkingDirectory, runAsRoot, runAsRealUser}`.
    pub fn container(mut self, settings: Value) -> Self {
        self.container = settings;
        self
    }

    pub(super) fn product_reference(&self) -> Option<ProductReference> {
        match &self.whole {
            Some(job) => job.pointer("/specification/product").and_then(ProductReference::parse),
            None => self.product.clone(),
        }
    }

    /// The job as Core stores it. `replicas_on_wire` is what its specification says (protocol 8.2).
    pub(super) fn to_job(
        &self,
        id: u64,
        now_ms: u64,
        product: &ProductReference,
        product_json: &Value,
        one_replica: bool,
    ) -> Value {
        let mut job = match &self.whole {
            Some(job) => job.clone(),
            None => self.build(product, product_json),
        };
        if one_replica {
            job["specification"]["replicas"] = json!(1);
        }
        job["id"] = json!(id.to_string());
        job["createdAt"] = json!(now_ms);
        if !job["status"].is_object() {
            job["status"] = json!({});
        }
        job
    }

    fn build(&self, product: &ProductReference, product_json: &Value) -> Value {
        let application = json!({"name": self.application, "version": self.version});
        let allocation = self
            .time_allocation
            .map(|(hours, minutes, seconds)| json!({"hours": hours, "minutes": minutes, "seconds": seconds}));
        let exported = json!({
            "siteVersion": 3,
            "request": {
                "application": application, "product": product, "name": self.name, "replicas": self.replicas,
                "parameters": self.values, "resources": self.resources, "timeAllocation": allocation,
                "resolvedProduct": null, "resolvedApplication": null, "resolvedSupport": null, "allowDuplicateJob": false,
            },
            "machineType": {"cpu": product_json["cpu"], "memoryInGigs": product_json["memoryInGigs"]},
        });
        json!({
            "owner": {"createdBy": self.created_by, "project": self.project},
            "updates": [],
            "specification": {
                "application": application, "product": product, "name": self.name, "replicas": self.replicas,
                "allowDuplicateJob": false, "parameters": self.values, "resources": self.resources, "timeAllocation": allocation,
            },
            "status": {
                "state": "IN_QUEUE", "jobParametersJson": exported, "startedAt": null, "expiresAt": null,
                "resolvedApplication": self.resolved_application(), "resolvedSupport": null, "resolvedProduct": null,
            },
            "output": null, "permissions": null,
        })
    }

    fn resolved_application(&self) -> Value {
        let tool = json!({
            "owner": "_ucloud", "createdAt": 1_633_329_776_235_u64, "modifiedAt": 1_633_329_776_235_u64,
            "description": {
                "info": {"name": self.application, "version": self.version}, "container": null, "defaultNumberOfNodes": 1,
                "defaultTimeAllocation": {"hours": 1, "minutes": 0, "seconds": 0}, "requiredModules": [], "authors": ["UCloud"],
                "title": self.application, "description": "An example tool", "backend": "DOCKER", "license": "None",
                "image": self.image, "supportedProviders": null,
            },
        });
        json!({
            "metadata": {
                "name": self.application, "version": self.version, "authors": ["UCloud"], "title": self.application,
                "description": "An example application", "website": null, "public": true,
            },
            "invocation": {
                "tool": {"name": self.application, "version": self.version, "tool": tool},
                "invocation": self.invocation, "parameters": self.parameters, "outputFileGlobs": ["*"],
                "applicationType": self.application_type, "vnc": self.vnc, "web": self.web, "container": self.container,
                "environment": if self.environment.is_empty() { Value::Null } else { json!(self.environment) },
                "allowAdditionalMounts": null, "allowAdditionalPeers": null, "allowMultiNode": self.replicas > 1,
                "fileExtensions": [], "licenseServers": [],
            },
        })
    }
}

/// The short form in which the admin interface takes a job.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ShortRequest {
    application: Option<String>,
    name: Option<String>,
    image: String,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    environment: Map<String, Value>,
    #[serde(default = "one")]
    replicas: u64,
    product: Option<String>,
    category: Option<String>,
    minutes: Option<u64>,
    seconds: Option<u64>,
    owner: Option<String>,
    project: Option<String>,
    web_port: Option<u16>,
    #[serde(default)]
    mounts: Vec<String>,
    #[serde(default)]
    peers: Map<String, Value>,
}

fn one() -> u64 {
    1
}

impl ShortRequest {
    /// The request in full. `known` are Core's products: a product is found by its name, if one is named.
    pub(super) fn into_request(self, known: &[ProductReference]) -> Result<JobRequest, String> {
        let mut request = JobRequest::new(&self.image).command(&self.command).replicas(self.replicas);
        request.name = self.name;
        request.application = self.application.unwrap_or(request.application);
        if self.minutes.is_some() || self.seconds.is_some() {
            let total = self.minutes.unwrap_or(0).saturating_mul(60).saturating_add(self.seconds.unwrap_or(0));
            request = request.time_allocation(total / 3600, total / 60 % 60, total % 60);
        }
        if let Some(name) = self.product {
            let is_named = |it: &&ProductReference| {
                it.id == name && self.category.as_ref().is_none_or(|wanted| *wanted == it.category)
            };
            let found = known.iter().find(is_named).cloned();
            request.product = Some(found.ok_or_else(|| format!("product: there is no {name}"))?);
        }
        for (name, value) in self.environment {
            let value = value.as_str().ok_or_else(|| format!("environment.{name}: expected a string"))?;
            request = request.environment(&name, value);
        }
        for path in self.mounts {
            request = request.mount(&path, false);
        }
        for (hostname, job) in self.peers {
            let job = job.as_str().ok_or_else(|| format!("peers.{hostname}: expected the id of a job"))?;
            request = request.peer(&hostname, job);
        }
        if let Some(port) = self.web_port {
            request = request.web(port);
        }
        request.created_by = self.owner.unwrap_or(request.created_by);
        request.project = self.project;
        Ok(request)
    }
}
