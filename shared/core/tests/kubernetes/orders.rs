//! Whatever order objects come in, however they are cut into batches, and however often.

use serde_json::Value;
use spanhook_core::provider::{Provider, lighthouse::Sources};

use crate::support::{Sent, any_order_is_the_same, batch, left, samples, with};

#[test]
fn the_samples_give_the_same_spans_in_any_order() {
    let all: Vec<Sent> =
        samples(Provider::Kubernetes).into_values().map(|it| (Provider::Kubernetes, it)).collect();
    any_order_is_the_same(&all, &with(Sources::Objects));
}

#[test]
fn a_batch_is_the_same_as_its_objects_one_by_one() {
    for (name, whole) in samples(Provider::Kubernetes) {
        let Value::Array(items) = whole["items"].clone() else { panic!("{name}") };
        let alone: Vec<Sent> =
            items.into_iter().map(|it| (Provider::Kubernetes, batch(&[it]))).collect();
        let whole = [(Provider::Kubernetes, whole)];
        assert_eq!(
            left(&whole, &with(Sources::Both)),
            left(&alone, &with(Sources::Both)),
            "{name}"
        );
    }
}
