use std::sync::atomic::AtomicUsize;

use aws_sdk_sqs::{
    Client,
    error::ErrorMetadata,
    operation::{
        change_message_visibility_batch::ChangeMessageVisibilityBatchOutput,
        get_queue_attributes::{GetQueueAttributesError, GetQueueAttributesOutput},
        receive_message::ReceiveMessageOutput,
    },
    types::{
        ChangeMessageVisibilityBatchResultEntry as Changed, Message as SqsMessage,
        QueueAttributeName,
    },
};
use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};

use super::*;

fn shared(rules: &[&Rule]) -> Shared {
    let client: Client = mock_client!(aws_sdk_sqs, RuleMode::MatchAny, rules);
    let queue = SqsQueue::new(client, "http://queue".into(), Some("http://dead".into()));
    let dead = queue.dead_letters().unwrap();
    Shared::of(queue, dead)
}

fn counted() -> Rule {
    mock!(Client::get_queue_attributes).match_requests(|_| true).then_output(|| {
        let name = QueueAttributeName::ApproximateNumberOfMessages;
        GetQueueAttributesOutput::builder().attributes(name, "3").build()
    })
}

/// A queue that never ends, ten with each receive.
fn full() -> Rule {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    mock!(Client::receive_message).match_requests(|_| true).then_output(|| {
        let message = || {
            let id = NUMBER.fetch_add(1, Ordering::Relaxed).to_string();
            SqsMessage::builder().message_id(&id).receipt_handle(id).body("x").build()
        };
        let messages = std::iter::repeat_with(message).take(10).collect();
        ReceiveMessageOutput::builder().set_messages(Some(messages)).build()
    })
}

/// Visibility changes to so many seconds.
fn hidden_for(seconds: i32) -> Rule {
    mock!(Client::change_message_visibility_batch)
        .match_requests(move |it| {
            it.entries().iter().all(|it| it.visibility_timeout() == Some(seconds))
        })
        .then_output(|| {
            let done = Changed::builder().id("0").build().unwrap();
            let done = ChangeMessageVisibilityBatchOutput::builder().successful(done);
            done.set_failed(Some(Vec::new())).build().unwrap()
        })
}

async fn batch(shared: &Shared, max: usize) -> Vec<Received> {
    shared.receive(max, Instant::now() + Duration::from_secs(20)).await
}

#[tokio::test(start_paused = true)]
async fn what_is_worked_on_stays_leased_and_what_is_settled_does_not() {
    let (renewing, resting, deleting) = (hidden_for(60), hidden_for(7), deleted());
    let shared = shared(&[&counted(), &full(), &renewing, &resting, &deleting]);
    let received = batch(&shared, 10).await;
    sleep(Duration::from_secs(15)).await;
    assert_eq!(renewing.num_calls(), 0, "its lease has time left");
    sleep(Duration::from_secs(50)).await;
    let renewed = renewing.num_calls();
    assert!((2..=3).contains(&renewed), "{renewed} renewals in 65 s");

    let settled: Vec<_> = received.iter().take(9).collect();
    shared.delete(&settled).await.unwrap();
    shared.back_off(&[(&received[9], Duration::from_secs(7))]).await.unwrap();
    sleep(Duration::from_secs(120)).await;
    assert_eq!(renewing.num_calls(), renewed, "nothing is held any more");
}

fn deleted() -> Rule {
    use aws_sdk_sqs::operation::delete_message_batch::DeleteMessageBatchOutput;
    mock!(Client::delete_message_batch).match_requests(|_| true).then_output(|| {
        let none = DeleteMessageBatchOutput::builder().set_successful(Some(Vec::new()));
        none.set_failed(Some(Vec::new())).build().unwrap()
    })
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_never_settled_is_left_to_others_in_the_end() {
    let renewing = hidden_for(60);
    let shared = shared(&[&counted(), &full(), &renewing]);
    batch(&shared, 10).await;
    sleep(HELD + LEASE).await;
    let renewed = renewing.num_calls();
    sleep(HELD).await;
    assert_eq!(renewing.num_calls(), renewed);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_settled_is_given_back_and_nothing_more_is_received() {
    let (receiving, giving_back) = (full(), hidden_for(0));
    let shared = shared(&[&counted(), &receiving, &giving_back]);
    assert_eq!(batch(&shared, 10).await.len(), 10);
    shared.give_back().await;
    assert_eq!(giving_back.num_calls(), 1);
    let calls = receiving.num_calls();
    assert_eq!(batch(&shared, 10).await, []);
    assert_eq!(receiving.num_calls(), calls);
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_nobody_waits_for_is_given_back_too() {
    let (receiving, giving_back) = (full(), hidden_for(0));
    let shared = shared(&[&counted(), &receiving, &giving_back]);
    {
        let waiting = batch(&shared, 10);
        tokio::pin!(waiting);
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("it is asked for first"),
            () = std::future::ready(()) => {}
        }
    }
    tokio::task::yield_now().await;
    shared.give_back().await;
    assert_eq!((receiving.num_calls(), giving_back.num_calls()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn while_nothing_is_taken_little_is_received() {
    let resting = hidden_for(9);
    let shared = shared(&[&counted(), &full(), &resting, &deleted()]);
    let mut sizes = Vec::new();
    for _ in 0..3 {
        let received = batch(&shared, 1000).await;
        let pause = Duration::from_secs(9);
        let all: Vec<_> = received.iter().map(|it| (it, pause)).collect();
        shared.back_off(&all).await.unwrap();
        sizes.push(received.len());
    }
    assert_eq!(sizes, [1000, FEW, FEW]);
    let received = batch(&shared, 1000).await;
    shared.delete(&received.iter().collect::<Vec<_>>()).await.unwrap();
    assert_eq!(batch(&shared, 1000).await.len(), 1000, "once something is taken it is full again");
}

#[test]
fn what_was_received_often_rests_long() {
    let seconds = Duration::from_secs;
    for (count, pause, expected) in [
        (1, seconds(5), seconds(5)),
        (OFTEN, seconds(30), seconds(30)),
        (OFTEN + 1, seconds(30), SELDOM),
        (OFTEN + 1, seconds(3600), seconds(3600)),
    ] {
        let message = Received { receive_count: count, ..Received::default() };
        assert_eq!(rest(&message, pause), expected, "{count}");
    }
    // As often as the templates let it be received.
    let outlived = seconds(5) * OFTEN + SELDOM * (1000 - OFTEN);
    assert!(outlived > Duration::from_secs(9 * 24 * 3600), "{outlived:?}");
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_gone_is_told_to_probes_and_ends_the_process_in_the_end() {
    let gone = Arc::new(AtomicBool::new(false));
    let (here, missing) = (Arc::clone(&gone), Arc::clone(&gone));
    let there = mock!(Client::get_queue_attributes)
        .match_requests(move |_| !here.load(Ordering::Relaxed))
        .then_output(|| {
            let name = QueueAttributeName::ApproximateNumberOfMessages;
            GetQueueAttributesOutput::builder().attributes(name, "3").build()
        });
    let failing = mock!(Client::get_queue_attributes)
        .match_requests(move |_| missing.load(Ordering::Relaxed))
        .then_error(|| {
            let code = ErrorMetadata::builder().code("QueueDoesNotExist").message("it is gone");
            GetQueueAttributesError::generic(code.build())
        });
    let shared = shared(&[&there, &failing]);
    sleep(LOOK * 2).await;
    assert!(shared.is_reached());
    assert_eq!(shared.counts(), Counts { queued: 3, dead_letters: 3 });

    for outage in [LOOK * 2, LOOK * 28] {
        assert!(outage < PATIENCE);
        gone.store(true, Ordering::Relaxed);
        sleep(outage).await;
        assert!(!shared.is_reached());
        gone.store(false, Ordering::Relaxed);
        sleep(LOOK * 2).await;
        assert!(shared.is_reached(), "it is there again");
    }

    gone.store(true, Ordering::Relaxed);
    let before = Instant::now();
    let reason = shared.ended().await;
    assert!(before.elapsed() >= PATIENCE && before.elapsed() < PATIENCE + LOOK * 3);
    assert!(reason.contains("QueueDoesNotExist it is gone"), "{reason}");
}
