//! What a bundler says of a bundle: how long it took, what it weighs, and what of it weighs most.

use std::{collections::BTreeMap, ops::BitOr};

use serde::Deserialize as _;
use serde_json::Value;

use super::{
    super::{
        BadEvents, Batch, MAX_DETAILS, MAX_PARTS,
        asset::{self, Weight},
        package::{self, Package},
        place::Place,
        private,
        read::{BYTES, COUNT},
    },
    Subject, float, outcome,
};
use crate::{
    id::SpanId,
    lenient::Int,
    mapping::Outcome,
    otlp::span::Attributes,
    semconv::{self as sc, RunResult},
    time,
};

/// `error.type` of a bundle whose sender says no more than that there were errors.
const COMPILE_ERROR: &str = "compile_error";

impl Subject<'_, '_> {
    pub(super) fn bundle(&self, batch: &mut Batch) -> Result<(), BadEvents> {
        let event = self.event;
        let place = self.place()?;
        let milliseconds = event
            .amount("metrics.compile_time_ms", "use a number of milliseconds, not negative")?;
        let sizes = [
            ("build.bundle.size", "By", event.count("metrics.total_asset_size_bytes", BYTES)?),
            ("build.bundle.assets", "{asset}", event.count("metrics.asset_count", COUNT)?),
            ("build.bundle.chunks", "{chunk}", event.count("metrics.chunk_count", COUNT)?),
        ];
        let bundler = event.text("bundler")?.unwrap_or_else(|| "webpack".to_owned());
        let errors = event.count("errors_count", COUNT)?;
        let outcome = match event.text("job_status")?.map(outcome) {
            Some(outcome) if outcome.error.is_some() => Some(outcome),
            _ if errors.is_some_and(|it| it > 0) => {
                Some(Outcome::known(RunResult::Failure, COMPILE_ERROR))
            }
            outcome => outcome,
        };
        let failed = outcome.as_ref().is_some_and(|it| it.error.is_some());

        // One build may have several bundles, told apart by their names.
        let name = event.text("name")?;
        let id = self.id(place, &[name.as_deref().unwrap_or(&bundler)]);
        let length = time::seconds(milliseconds / 1000.0);
        let mut span = self.span(place, id, format!("{bundler} compile"), length);
        let mut labels = Attributes::with_capacity(4);
        labels.set(sc::CICD_PIPELINE_NAME, self.project.clone());
        labels.set("build.bundler.name", bundler.clone());
        labels.set("build.bundle.name", name.clone());

        span.attributes.set("build.bundler.name", bundler);
        span.attributes.set("build.bundler.version", event.text("bundler_version")?);
        span.attributes.set("build.bundle.name", name);
        span.attributes.set("build.errors", errors);
        if let Some(outcome) = outcome {
            outcome.apply("build.result", &mut span);
        }
        let at = (place, id);
        let duration = ("build.compile.duration", "s");
        self.gauge(batch, duration, milliseconds / 1000.0, labels.clone(), at);
        if let Some(details) = event.get("details") {
            let body = private::text(details, MAX_DETAILS);
            let context = Some((place.trace, id));
            self.log(batch, "build.bundle.stats", body, labels.clone(), context);
        }
        // What a failed build left behind is not its size.
        if !failed {
            for (name, unit, count) in sizes {
                let Some(count) = count else { continue };
                span.attributes.set(name, count);
                self.gauge(batch, (name, unit), float(count), labels.clone(), at);
            }
            self.parts_of_bundle(batch, &labels, at);
        }
        batch.add_span(place.trace, &self.resource, span);
        Ok(())
    }

    /// The largest assets and chunks; what can't be read of them is told to the sender.
    fn parts_of_bundle(
        &self,
        batch: &mut Batch,
        labels: &Attributes<'static>,
        at: (Place, SpanId),
    ) {
        if self.event.get("details").is_some_and(|it| !it.is_object()) {
            batch.miss(|| self.event.path("details"));
        }
        let details = |list| self.event.get("details").and_then(|it| it.get(list));
        let path = |list| move || self.event.path(&format!("details.{list}"));
        let assets = listed(batch, details("largest_assets"), &path("largest_assets"), asset);
        for (name, size) in asset::largest(assets, MAX_PARTS) {
            let mut labels = labels.clone();
            labels.set("build.asset.name", name.clone());
            self.gauge(batch, ("build.asset.size", "By"), float(size), labels.clone(), at);
            labels.set("build.asset.size", size);
            self.part(batch, "build.asset", name, labels, at);
        }
        let chunks = listed(batch, details("chunks"), &path("chunks"), chunk);
        for (name, chunk) in asset::largest(chunks, MAX_PARTS) {
            let mut labels = labels.clone();
            labels.set("build.chunk.name", name.clone());
            labels.set("build.chunk.initial", chunk.initial);
            let modules = chunk.modules.map(|it| ("build.chunk.modules", "{module}", it));
            for (name, unit, count) in
                [("build.chunk.size", "By", chunk.size)].into_iter().chain(modules)
            {
                self.gauge(batch, (name, unit), float(count), labels.clone(), at);
            }
            for (name, package) in package::largest(chunk.packages, MAX_PARTS) {
                let mut labels = labels.clone();
                labels.set("build.package.name", name.clone());
                let size = ("build.chunk.package.size", "By");
                self.gauge(batch, size, float(package.size), labels.clone(), at);
                labels.set("build.chunk.package.size", package.size);
                labels.set("build.chunk.package.modules", package.modules);
                self.part(batch, "build.chunk.package", name, labels, at);
            }
            labels.set("build.chunk.size", chunk.size);
            labels.set("build.chunk.modules", chunk.modules);
            self.part(batch, "build.chunk", name, labels, at);
        }
    }
}

/// The elements of a list in `details` that can be read. Bundlers' plugins differ in how they write
/// them, so one that can't be read costs no other; `path` is where the list is.
fn listed<T>(
    batch: &mut Batch,
    list: Option<&Value>,
    path: &dyn Fn() -> String,
    read: fn(&mut Batch, &Value, &dyn Fn() -> String) -> Option<T>,
) -> Vec<T> {
    let Some(json) = list.filter(|it| !it.is_null()) else { return Vec::new() };
    let Some(elements) = json.as_array() else {
        batch.miss(path);
        return Vec::new();
    };
    let mut parts = Vec::with_capacity(elements.len());
    for (nth, element) in elements.iter().enumerate() {
        let path = || format!("{}[{nth}]", path());
        match read(batch, element, &path) {
            Some(part) => parts.push(part),
            None => batch.miss(path),
        }
    }
    parts
}

/// `size` as webpack says it, or `size_bytes`.
fn size(part: &Value) -> Option<u64> {
    let size = part.get("size").filter(|it| !it.is_null()).or_else(|| part.get("size_bytes"))?;
    number(size)
}

fn number(json: &Value) -> Option<u64> {
    Int::deserialize(json).ok().and_then(|Int(number)| number)
}

fn asset(_: &mut Batch, part: &Value, _: &dyn Fn() -> String) -> Option<(String, u64)> {
    Some((asset::without_hash(part.get("name")?.as_str()?), size(part)?))
}

/// What a chunk weighs.
#[derive(Debug, Default)]
struct Chunk {
    size: u64,
    /// How many modules are in it, where that is told.
    modules: Option<u64>,
    /// Whether a page loads it at once, where that is told.
    initial: Option<bool>,
    /// What its modules weigh, by npm package, where that is told.
    packages: BTreeMap<String, Package>,
}

impl Weight for Chunk {
    fn size(&self) -> u64 {
        self.size
    }

    fn add(&mut self, other: Self) {
        self.size.add(other.size);
        self.modules = package::either(self.modules, other.modules, u64::saturating_add);
        self.initial = package::either(self.initial, other.initial, BitOr::bitor);
        for (name, package) in other.packages {
            self.packages.entry(name).or_default().add(package);
        }
    }
}

/// A chunk by its name, its first name of several, or its id; without a name it is one of those that
/// a bundler numbers.
fn chunk(batch: &mut Batch, part: &Value, path: &dyn Fn() -> String) -> Option<(String, Chunk)> {
    let names = part.get("names").and_then(Value::as_array);
    let name = [part.get("name"), names.and_then(|it| it.first()), part.get("id")];
    let name = name.into_iter().flatten().find_map(|it| match it {
        Value::String(name) if !name.is_empty() => Some(asset::without_hash(name)),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    });
    let modules = match part.get("modules") {
        // As webpack lists them itself.
        Some(Value::Array(modules)) => Some(modules.len() as u64),
        Some(count) => number(count),
        None => None,
    };
    let size = size(part)?;
    let path = || format!("{}.packages", path());
    let mut packages = BTreeMap::<_, Package>::new();
    for (name, package) in listed(batch, part.get("packages"), &path, package) {
        packages.entry(name).or_default().add(package);
    }
    let initial = part.get("initial").and_then(Value::as_bool);
    Some((name.unwrap_or_else(|| "unnamed".to_owned()), Chunk { size, modules, initial, packages }))
}

fn package(_: &mut Batch, part: &Value, _: &dyn Fn() -> String) -> Option<(String, Package)> {
    let name = package::without_version(part.get("name")?.as_str()?)?;
    Some((name, Package { size: size(part)?, modules: part.get("modules").and_then(number) }))
}
