//! Anything as any object.

use proptest::prelude::*;
use serde_json::{Value, json};
use spanhook_core::{delivery::Outcome, delivery::Unmappable, provider::Provider};

use crate::support::{batch, process, samples, spans_of, with};
use spanhook_core::provider::lighthouse::Sources;

/// Those that tell of a cluster.
const CLUSTER: [Provider; 3] = [Provider::Kubernetes, Provider::Tekton, Provider::Lighthouse];

/// Values as they might stand anywhere.
fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        prop::sample::select(vec![
            "2026-11-02T09:30:00Z",
            "0001-01-01T00:00:00Z",
            "True",
            "False",
            "Succeeded",
            "Failed",
            "PodScheduled",
            "success",
            "DELETED",
        ])
        .prop_map(Value::from),
    ]
}

/// A sample with some of its values replaced.
fn changed(json: &Value, values: &[Value], random: &mut fastrand::Rng) -> Value {
    if random.u8(..) < 12 {
        return values[random.usize(..values.len())].clone();
    }
    match json {
        Value::Array(items) => items.iter().map(|it| changed(it, values, random)).collect(),
        Value::Object(fields) => {
            let kept = fields.iter().filter(|_| random.u8(..) > 6).collect::<Vec<_>>();
            kept.into_iter().map(|(key, it)| (key.clone(), changed(it, values, random))).collect()
        }
        scalar => scalar.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_object_is_mapped_by_the_conventions_or_refused(
        values in prop::collection::vec(leaf(), 1..8),
        seed: u64,
        both: bool,
    ) {
        let mut random = fastrand::Rng::with_seed(seed);
        let settings = with(if both { Sources::Both } else { Sources::Hooks });
        for provider in CLUSTER {
            for (_, sample) in samples(provider) {
                let sent = (provider, changed(&sample, &values, &mut random));
                spans_of(&sent, &settings);
                if let Outcome::Quarantined { reason, .. } = process(&sent, &settings) {
                    prop_assert!(reason != Unmappable::Bug, "{}", sent.1);
                }
            }
        }
    }

    #[test]
    fn any_json_is_any_kind_of_object(value in leaf(), at in 0usize..4) {
        for kind in ["LighthouseJob", "PipelineActivity", "PipelineRun", "TaskRun", "CustomRun", "Pod", "Event"] {
            let mut object = json!({ "kind": kind, "metadata": { "uid": "u", "name": "n" } });
            object[["metadata", "spec", "status", "reason"][at]] = value.clone();
            let item = json!({ "type": "DELETED", "observed_at": "2026-11-02T09:30:00Z", "object": object, "pod": { "metadata": { "uid": "u" } } });
            let sent = (Provider::Kubernetes, batch(&[item]));
            spans_of(&sent, &with(Sources::Objects));
            let bug = matches!(process(&sent, &with(Sources::Objects)), Outcome::Quarantined { reason: Unmappable::Bug, .. });
            prop_assert!(!bug);
        }
    }
}
