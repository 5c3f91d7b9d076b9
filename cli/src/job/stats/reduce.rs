//! From a bundler's statistics to what a build event holds; `packages/bundler/src/reduce.ts` does
//! the same, and the numbers are equal.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    path::Path,
};

use serde::Serialize;

use super::{
    modules::ByChunk,
    packages::Contents,
    read::{Asset, Chunk, Entry, Output, Statistics},
};

const MAX_ASSETS: usize = 20;
const MAX_CHUNKS: usize = 50;
const MAX_LIST: usize = 20;

/// In characters, as the package cuts.
const MAX_TEXT: usize = 256;

#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Reduced {
    pub(super) job_status: &'static str,
    pub(super) errors_count: u64,
    pub(super) warnings_count: u64,
    pub(super) metrics: Metrics,
    pub(super) details: Details,
}

#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Metrics {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) compile_time_ms: Option<u64>,
    /// Everything that ships: assets without source maps.
    #[serde(skip_serializing_if = "Option::is_none")]
    total_asset_size_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asset_count: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk_count: Option<usize>,
    /// Left out when the statistics name source maps without their size.
    #[serde(skip_serializing_if = "Option::is_none")]
    source_map_size_bytes: Option<u64>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Details {
    pub(super) largest_assets: Vec<Named>,
    pub(super) chunks: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Named {
    name: String,
    size: u64,
}

#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Piece {
    names: Vec<String>,
    files: Vec<String>,
    size: u64,
    entry: bool,
    initial: bool,
    #[serde(flatten)]
    contents: Option<Contents>,
}

/// Every bundler's statistics in one form.
#[derive(Debug, Default)]
pub(super) struct Found {
    time: Option<f64>,
    errors: u64,
    warnings: u64,
    assets: Vec<Named>,
    maps: Vec<Named>,
    /// There are source maps whose size nobody told.
    maps_unknown: bool,
    chunks: Vec<Piece>,
}

impl Found {
    /// Of webpack and rspack, and of plugins that copy their shape.
    pub(super) fn webpack(statistics: Statistics) -> Self {
        let assets = statistics.assets.unwrap_or_default();
        let related = assets.iter().flat_map(|it| it.related.iter().flatten());
        // Of what is related only the maps count: licence texts and compressed copies are not in
        // the sizes that are printed either.
        let related: Vec<_> = related.map(sized).filter(is_map).collect();
        let listed: Vec<_> = assets.iter().map(sized).collect();
        let sizes: HashMap<_, _> = listed.iter().map(|it| (&*it.name, it.size)).collect();
        let maps_unknown = assets
            .iter()
            .flat_map(Asset::maps_without_size)
            .any(|name| !sizes.contains_key(&**name));
        let chunks = statistics
            .chunks
            .into_iter()
            .map(|it| piece(it, &sizes, &statistics.modules))
            .collect();
        let (mut maps, assets): (Vec<_>, _) = listed.into_iter().partition(is_map);
        maps.extend(related);
        Self {
            time: statistics.time,
            errors: statistics.errors.unwrap_or_default(),
            warnings: statistics.warnings.unwrap_or_default(),
            assets,
            maps,
            maps_unknown,
            chunks,
        }
    }

    /// Of esbuild; `outdir` is taken off the names.
    pub(super) fn esbuild(outputs: &[(String, Output)], outdir: &str) -> Self {
        let outdir = outdir.replace('\\', "/");
        let outdir = outdir.strip_prefix("./").unwrap_or(&outdir).trim_end_matches('/');
        let prefix = format!("{outdir}/");
        let short = |path: &str| path.strip_prefix(&prefix).unwrap_or(path).to_owned();
        let by_path: HashMap<_, _> = outputs.iter().map(|(path, it)| (&**path, it)).collect();
        let imports = |output: &Output, dynamic: bool| -> Vec<String> {
            let wanted = output.imports.iter().filter(|it| !it.external);
            let wanted = wanted.filter(|it| (it.kind == "dynamic-import") == dynamic);
            wanted.map(|it| it.path.clone()).collect()
        };
        // With splitting, esbuild also calls the target of an import() an entry point.
        let lazy: HashSet<_> = outputs.iter().flat_map(|(_, it)| imports(it, true)).collect();
        let is_entry =
            |path: &str, output: &Output| output.entry_point.is_some() && !lazy.contains(path);
        let codes =
            || outputs.iter().filter(|(path, it)| it.entry_point.is_some() || is_code(path));
        let entries = codes().filter(|(path, it)| is_entry(path, it)).map(|(path, _)| path.clone());
        let initial = reachable(entries, |path| {
            by_path.get(path).map(|it| imports(it, false)).unwrap_or_default()
        });
        let chunks = codes().map(|(path, output)| {
            let name = short(path);
            let stem = name.rsplit_once('.').filter(|(_, ending)| !ending.contains('/'));
            Piece {
                names: vec![stem.map_or(&*name, |it| it.0).to_owned()],
                files: [Some(path), output.css_bundle.as_ref()]
                    .into_iter()
                    .flatten()
                    .map(|it| short(it))
                    .collect(),
                size: whole(output.bytes),
                entry: is_entry(path, output),
                initial: initial.contains(path),
                contents: Contents::of(&output.packages()),
            }
        });
        let chunks = chunks.collect();
        let all =
            outputs.iter().map(|(path, it)| Named { name: short(path), size: whole(it.bytes) });
        let (maps, assets) = all.partition(is_map);
        Self { assets, maps, chunks, ..Self::default() }
    }

    /// Of Vite's manifest, which tells no sizes: `size` does. An error is a file that it can't tell.
    pub(super) fn manifest(
        entries: &[(String, Entry)],
        size: impl Fn(&str) -> Option<u64>,
    ) -> Result<Self, String> {
        let mut found = Self::default();
        let mut sizes = HashMap::new();
        let files =
            entries.iter().flat_map(|(_, it)| it.file.iter().chain(&it.css).chain(&it.assets));
        for file in files {
            if sizes.contains_key(&**file) {
                continue;
            }
            let bytes = size(file).ok_or_else(|| file.clone())?;
            sizes.insert(&**file, bytes);
            found.assets.push(Named { name: file.clone(), size: bytes });
            // The manifest does not list source maps.
            let map = format!("{file}.map");
            found.maps.extend(size(&map).map(|size| Named { name: map, size }));
        }
        let imports: HashMap<_, _> =
            entries.iter().map(|(key, it)| (&**key, &it.imports)).collect();
        let begin = entries.iter().filter(|(_, it)| it.begins).map(|(key, _)| key.clone());
        let initial =
            reachable(begin, |key| imports.get(key).map_or_else(Vec::new, |it| (*it).clone()));
        // An asset of its own, and a page, have an entry as well.
        let codes = entries.iter().filter(|(_, it)| it.file.as_deref().is_some_and(is_code));
        found.chunks = codes
            .map(|(key, entry)| Piece {
                names: entry.name.iter().cloned().collect(),
                files: entry.file.iter().chain(&entry.css).cloned().collect(),
                size: entry
                    .file
                    .as_deref()
                    .and_then(|it| sizes.get(it).copied())
                    .unwrap_or_default(),
                entry: entry.begins,
                initial: initial.contains(key),
                contents: None,
            })
            .collect();
        Ok(found)
    }

    /// `duration`, in milliseconds, wins over the time in the statistics.
    pub(super) fn reduce(self, duration: Option<f64>) -> Reduced {
        let compile_time_ms = duration.or(self.time).map(whole);
        let mut reduced = Reduced {
            job_status: if self.errors > 0 { "failed" } else { "success" },
            errors_count: self.errors,
            warnings_count: self.warnings,
            metrics: Metrics { compile_time_ms, ..Metrics::default() },
            details: Details::default(),
        };
        // A failed build has left-overs of sizes; they would show as a sudden drop.
        if self.errors > 0 {
            return reduced;
        }
        let maps = (!self.maps_unknown).then(|| sum(&self.maps));
        reduced.metrics = Metrics {
            compile_time_ms,
            total_asset_size_bytes: Some(sum(&self.assets)),
            asset_count: Some(self.assets.len()),
            chunk_count: Some(self.chunks.len()),
            source_map_size_bytes: maps,
        };
        let Self { mut assets, mut chunks, .. } = self;
        assets.sort_by_key(|it| Reverse(it.size));
        assets.truncate(MAX_ASSETS);
        chunks.sort_by_key(|it| Reverse(it.size));
        chunks.truncate(MAX_CHUNKS);
        assets.iter_mut().for_each(|it| it.name = clean(&it.name));
        for list in chunks.iter_mut().flat_map(|it| [&mut it.names, &mut it.files]) {
            list.truncate(MAX_LIST);
            list.iter_mut().for_each(|it| *it = clean(it));
        }
        reduced.details = Details { largest_assets: assets, chunks };
        reduced
    }
}

fn sized(asset: &Asset) -> Named {
    Named {
        name: asset.name.clone().unwrap_or_default(),
        size: whole(asset.size.unwrap_or_default()),
    }
}

fn piece(chunk: Chunk, sizes: &HashMap<&str, u64>, modules: &ByChunk) -> Piece {
    let listed = || modules.0.get(chunk.id.as_ref()?);
    let contents = chunk.modules.as_ref().or_else(listed).and_then(Contents::of);
    let files = chunk.files.unwrap_or_default();
    let of_files = || files.iter().filter_map(|it| sizes.get(&**it)).sum();
    Piece {
        size: chunk.size.map_or_else(of_files, whole),
        names: chunk.names.unwrap_or_default(),
        files,
        entry: chunk.entry.unwrap_or_default(),
        initial: chunk.initial.unwrap_or_default(),
        contents,
    }
}

fn is_map(asset: &Named) -> bool {
    // A query may follow, as in `main.js.map?v=1`.
    asset.name.split('?').any(|it| it.strip_suffix(".map").is_some())
}

fn is_code(path: &str) -> bool {
    let ending = Path::new(path).extension().and_then(|it| it.to_str());
    matches!(ending, Some("js" | "mjs" | "cjs"))
}

fn reachable(
    from: impl Iterator<Item = String>,
    next: impl Fn(&str) -> Vec<String>,
) -> HashSet<String> {
    let mut open: Vec<_> = from.collect();
    let mut found = HashSet::new();
    while let Some(name) = open.pop() {
        if !found.contains(&name) {
            open.extend(next(&name));
            found.insert(name);
        }
    }
    found
}

fn sum(assets: &[Named]) -> u64 {
    assets.iter().fold(0, |sum, it| sum.saturating_add(it.size))
}

/// JavaScript's numbers are fractions, and webpack's sizes are now and then.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of what is no such number gives the nearest one"
)]
pub(super) fn whole(number: f64) -> u64 {
    number.round() as u64
}

/// Folders outside the output say where somebody's home is: of such a path only the end is kept.
fn clean(name: &str) -> String {
    let path = name.replace('\\', "/");
    let path = path.split('?').next().unwrap_or_default();
    let scheme = path.split_once("://").map(|it| it.0);
    let drive = path.as_bytes().first().is_some_and(u8::is_ascii_alphabetic)
        && path.as_bytes().get(1) == Some(&b':');
    let outside = path.starts_with('/')
        || drive
        || scheme.is_some_and(|it| !it.is_empty() && it.bytes().all(|it| it.is_ascii_lowercase()));
    let mut path = if outside { path.rsplit('/').next().unwrap_or_default() } else { path };
    while let Some(inner) = path.strip_prefix("./").or_else(|| path.strip_prefix("../")) {
        path = inner;
    }
    cut(path)
}

/// A text that is not too long for a name.
pub(super) fn cut(text: &str) -> String {
    if text.chars().nth(MAX_TEXT).is_none() {
        return text.to_owned();
    }
    text.chars().take(MAX_TEXT - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn webpack(json: Value, duration: Option<f64>) -> Value {
        let statistics: Statistics = serde_json::from_value(json).unwrap();
        serde_json::to_value(Found::webpack(statistics).reduce(duration)).unwrap()
    }

    #[test]
    fn webpacks_statistics_are_read_with_source_maps_apart() {
        let reduced = webpack(
            json!({
                "time": 196, "errorsCount": 0, "warningsCount": 2,
                "assets": [
                    {
                        "name": "main.js", "size": 300,
                        "info": { "related": { "sourceMap": "main.js.map", "gzipped": "main.js.gz" } },
                        "related": [
                            { "name": "main.js.map", "size": 900 },
                            { "name": "main.js.gz", "size": 100 },
                        ],
                    },
                    { "name": "logo.svg?v=1", "size": 40 },
                ],
                "chunks": [{
                    "names": ["main"], "files": ["main.js"], "size": 700, "entry": true,
                    "initial": true, "modules": [{}],
                }],
            }),
            None,
        );
        assert_eq!(
            reduced,
            json!({
                "job_status": "success", "errors_count": 0, "warnings_count": 2,
                "metrics": {
                    "compile_time_ms": 196, "total_asset_size_bytes": 340, "asset_count": 2,
                    "chunk_count": 1, "source_map_size_bytes": 900,
                },
                "details": {
                    "largest_assets": [
                        { "name": "main.js", "size": 300 }, { "name": "logo.svg", "size": 40 },
                    ],
                    "chunks": [{
                        "names": ["main"], "files": ["main.js"], "size": 700, "entry": true,
                        "initial": true,
                    }],
                },
            })
        );
    }

    #[test]
    fn the_size_of_source_maps_is_left_out_when_the_statistics_do_not_tell_it() {
        let asset = json!({
            "name": "main.js", "size": 1, "info": { "related": { "sourceMap": ["main.js.map"] } },
            "related": [],
        });
        let size = |assets: Value| {
            webpack(json!({ "assets": assets }), None)["metrics"]["source_map_size_bytes"].clone()
        };
        assert_eq!(size(json!([asset])), Value::Null);
        assert_eq!(size(json!([asset, { "name": "main.js.map", "size": 5 }])), 5);
    }

    #[test]
    fn no_size_of_a_failed_build_is_kept_but_its_time() {
        for errors in [json!({ "errorsCount": 1 }), json!({ "errors": [{}], "warnings": [{}, {}] })]
        {
            let mut json = errors.clone();
            json["time"] = json!(122);
            json["assets"] = json!([{ "name": "main.js", "size": 428 }]);
            let reduced = webpack(json, None);
            assert_eq!(reduced["job_status"], "failed");
            assert_eq!(reduced["errors_count"], 1);
            assert_eq!(reduced["metrics"], json!({ "compile_time_ms": 122 }));
            assert_eq!(reduced["details"], json!({ "largest_assets": [], "chunks": [] }));
        }
    }

    #[test]
    fn a_chunk_without_a_size_has_that_of_its_files_and_a_given_time_wins() {
        let statistics = json!({
            "builtAt": 1, "time": 3,
            "assets": [{ "name": "index.mjs", "size": 274 }],
            "chunks": [{ "id": "a", "entry": true, "initial": true, "files": ["index.mjs"], "names": [] }],
        });
        let reduced = webpack(statistics, Some(12.6));
        assert_eq!(reduced["details"]["chunks"][0]["size"], 274);
        assert_eq!(reduced["metrics"]["compile_time_ms"], 13);
    }

    #[test]
    fn a_chunk_tells_its_packages_from_its_own_modules_or_from_those_that_name_it() {
        let zod = json!({ "name": "./node_modules/zod/index.js", "size": 30, "chunks": [1, "b"] });
        let joined = json!({
            "name": "./src/index.js + 1 modules", "nameForCondition": "/app/src/index.js",
            "size": 50, "chunks": [1],
            "modules": [
                { "name": "./src/index.js", "size": 20 },
                { "nameForCondition": "/app/node_modules/@acme/ui/index.js", "size": 30.4 },
            ],
        });
        let runtime = json!({
            "name": "webpack/runtime/ensure chunk", "nameForCondition": null, "size": 5, "chunks": [1],
        });
        let chunk = |id: Value| json!({ "id": id, "size": 80 });
        let mut own = chunk(json!("own"));
        own["modules"] = json!([zod, 0, null]);
        let all = json!([chunk(json!(1)), chunk(json!("b")), chunk(json!(3)), own]);
        let reduced = webpack(
            json!({ "assets": [], "chunks": all, "modules": [joined, zod, runtime, 7] }),
            None,
        );
        let chunks = &reduced["details"]["chunks"];
        let zod = json!({ "name": "zod", "size": 30, "modules": 1 });
        let ui = json!({ "name": "@acme/ui", "size": 30, "modules": 1 });
        let code = json!({ "name": "(own)", "size": 25, "modules": 2 });
        assert_eq!(chunks[0]["packages"], json!([ui, zod, code]));
        assert_eq!(chunks[0]["modules"], 4);
        assert_eq!(chunks[1]["packages"], json!([zod]));
        assert_eq!(chunks[2].get("packages").or(chunks[2].get("modules")), None);
        assert_eq!(chunks[3]["packages"], json!([zod]));
    }

    #[test]
    fn only_the_largest_are_kept_and_the_totals_stay_exact() {
        let asset = |size: u64| json!({ "name": format!("{size}.js"), "size": size });
        let chunk = |size: u64| json!({ "names": vec!["n"; 30], "size": size });
        let reduced = webpack(
            json!({
                "assets": (0..100).map(asset).collect::<Vec<_>>(),
                "chunks": (0..100).map(chunk).collect::<Vec<_>>(),
            }),
            None,
        );
        let assets = reduced["details"]["largest_assets"].as_array().unwrap();
        let chunks = reduced["details"]["chunks"].as_array().unwrap();
        assert_eq!((assets.len(), &assets[0]["size"]), (20, &json!(99)));
        assert_eq!((chunks.len(), &chunks[0]["size"]), (50, &json!(99)));
        assert_eq!(chunks[0]["names"].as_array().unwrap().len(), 20);
        assert_eq!(reduced["metrics"]["total_asset_size_bytes"], 4950);
        assert_eq!(reduced["metrics"]["asset_count"], 100);
    }

    #[test]
    fn names_are_relative_to_the_output_folder_and_short() {
        for (name, expected) in [
            ("main.js?v=1", "main.js"),
            ("../../home/ada/x.js", "home/ada/x.js"),
            ("./a/b.js", "a/b.js"),
            ("/home/ada/x.js", "x.js"),
            (r"C:\Users\ada\x.js", "x.js"),
            ("file:///home/ada/x.js", "x.js"),
            ("static/js/x.js", "static/js/x.js"),
            ("..x/y.js", "..x/y.js"),
        ] {
            assert_eq!(clean(name), expected, "{name}");
        }
        assert_eq!(clean(&"é".repeat(300)).chars().count(), 256);
    }
}
