//! Recorded sequences in any order, and in both id modes.

use std::collections::BTreeMap;

use serde_json::Value;
use spanhook_tests::{body, fixtures, mapping::poll, parts, stack::Stack};

use crate::stack::{HOOK, post, sign};

/// The deliveries of a folder as they came.
fn sequence(folder: &str) -> Vec<Vec<u8>> {
    let folder = fixtures().join("github").join(folder);
    let file = |number: u32| folder.join(format!("{number}.json"));
    (1..).map(file).take_while(|it| it.exists()).map(|it| body(&it)).collect()
}

/// A span's text without its ids and those that it names.
fn without_ids(text: &str) -> String {
    let lines = text.lines().filter(|it| !it.starts_with("  span ") && !it.starts_with("  link "));
    lines.flat_map(|it| [it, "\n"]).collect()
}

fn minus(
    all: &BTreeMap<String, usize>,
    other: &BTreeMap<String, usize>,
) -> BTreeMap<String, usize> {
    let new = all.iter().filter(|it| !other.contains_key(it.0));
    new.map(|(text, count)| (text.clone(), *count)).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS, SPANHOOK_FUNCTIONS and SPANHOOK_FIXTURES"]
async fn recorded_sequences_give_the_same_spans_in_any_order_and_in_both_id_modes() {
    let parts = parts();
    let stack = Stack::start(&parts, HOOK).await;
    let hashed = stack.function(&parts, &[("TRACE_IDS", "hashed")]).await;
    let native = stack.function(&parts, &[("TRACE_IDS", "native")]).await;
    let folders = [
        "cimonitor/push-failed",
        "cimonitor/release",
        "extra/synthetic/rerun-failed-jobs",
        "extra/synthetic/environment-approval",
    ];
    let recorded = folders.map(sequence).concat();
    assert_eq!(recorded.len(), 23 + 45 + 7 + 4);

    stack.deliver(&[&hashed], recorded.iter()).await;
    let by_hash = stack.written();
    stack.deliver(&[&native], recorded.iter()).await;
    let once = stack.written();
    let natively = minus(&once, &by_hash);
    // Two recorded runs, and two attempts of a third.
    assert_eq!(stack.collector.traces().len(), 2 * 4);
    let plain = |spans: &BTreeMap<String, usize>| {
        let mut plain = BTreeMap::new();
        for (text, count) in spans {
            *plain.entry(without_ids(text)).or_default() += count;
        }
        plain
    };
    let (a, b): (BTreeMap<String, usize>, _) = (plain(&by_hash), plain(&natively));
    assert_eq!(a, b, "apart from the ids both modes give the same spans");

    let mut reversed = recorded.clone();
    reversed.reverse();
    let mut shuffled = recorded.clone();
    fastrand::Rng::with_seed(7).shuffle(&mut shuffled);
    let mut doubled = [recorded.clone(), recorded].concat();
    fastrand::Rng::with_seed(8).shuffle(&mut doubled);
    let mut times = 1;
    for (order, deliveries, more) in
        [("reversed", reversed, 1), ("shuffled", shuffled, 1), ("doubled", doubled, 2)]
    {
        stack.deliver(&[&hashed, &native], deliveries.iter()).await;
        times += more;
        // What was written once more each is the same set: nothing else, and nothing less often.
        let expected: BTreeMap<_, _> =
            once.iter().map(|(text, count)| (text.clone(), count * times)).collect();
        assert_eq!(stack.written(), expected, "{order}");
    }
}

/// Issue 9: nothing that GitHub sends is answered with an error, but for what it did not sign.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS, SPANHOOK_FUNCTIONS and SPANHOOK_FIXTURES"]
async fn issue_9_every_recorded_event_is_acknowledged_and_a_forged_one_is_not() {
    let parts = parts();
    let stack = Stack::start(&parts, HOOK).await;
    let function = stack.function(&parts, &[]).await;
    let mut ignored = 0;
    for body in [sequence("cimonitor/push-failed"), sequence("cimonitor/release")].concat() {
        let event: Value = serde_json::from_slice(&body).unwrap();
        let of_actions = ["workflow_run", "workflow_job"].iter().any(|it| !event[*it].is_null());
        if of_actions {
            assert_eq!(post(&function, &body, &sign(b"another")).await.0, 401);
        } else {
            let (status, answer) = post(&function, &body, &sign(&body)).await;
            assert_eq!((status, &answer["status"]), (202, &Value::from("ignored")), "{answer}");
            ignored += 1;
        }
    }
    assert_eq!(ignored, 30);
    assert_eq!(poll(&stack.sqs, &stack.forwarder).await.0, 0, "nothing is queued");
    assert!(stack.sqs.peek(&stack.sqs.dead_letters).await.is_empty());
}
