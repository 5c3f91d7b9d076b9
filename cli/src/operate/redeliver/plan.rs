//! What GitHub lists of a webhook's deliveries, to what is to be sent again.

use std::collections::{HashMap, hash_map::Entry as Slot};

use jiff::Timestamp;
use serde::Deserialize;
use spanhook_core::provider::github::is_worth_sending_again;

/// An attempt to deliver, as GitHub lists it. Attempts of one delivery share its GUID.
///
/// <https://docs.github.com/en/rest/repos/webhooks#list-deliveries-for-a-repository-webhook>
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) id: u64,
    pub(super) guid: String,
    pub(super) delivered_at: Timestamp,
    /// What GitHub says of the answer, `OK` or such as `timed out`.
    #[serde(default)]
    pub(super) status: String,
    /// The answer's; none or 0 without an answer.
    pub(super) status_code: Option<i64>,
    pub(super) event: String,
    pub(super) action: Option<String>,
    pub(super) repository_id: Option<u64>,
}

impl Attempt {
    fn arrived(&self) -> bool {
        self.status_code.is_some_and(|it| (200..300).contains(&it))
    }

    fn age(&self) -> (Timestamp, u64) {
        (self.delivered_at, self.id)
    }
}

/// The deliveries of jobs and runs.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    /// By GUID: the newest attempt, or none once one of them arrived.
    open: HashMap<String, Option<Attempt>>,
    others: usize,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Deliveries of which an attempt arrived.
    pub(super) arrived: usize,
    /// Failed ones that give no span: of a job that is queued, for instance.
    pub(super) spared: usize,
    /// To be sent again: of each delivery the newest attempt, oldest delivery first.
    pub(super) again: Vec<Attempt>,
    /// Attempts of other events.
    pub(super) others: usize,
}

impl Deliveries {
    /// Adds attempts, in any order.
    pub(super) fn add(&mut self, attempts: impl IntoIterator<Item = Attempt>) {
        for attempt in attempts {
            if !matches!(attempt.event.as_str(), "workflow_job" | "workflow_run") {
                self.others += 1;
                continue;
            }
            match self.open.entry(attempt.guid.clone()) {
                _ if attempt.arrived() => {
                    self.open.insert(attempt.guid, None);
                }
                Slot::Vacant(slot) => {
                    slot.insert(Some(attempt));
                }
                Slot::Occupied(mut slot) => {
                    if let Some(known) =
                        slot.get_mut().as_mut().filter(|it| it.age() < attempt.age())
                    {
                        *known = attempt;
                    }
                }
            }
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Decides.
    pub(super) fn plan(self) -> Plan {
        let total = self.open.len();
        let failed: Vec<_> = self.open.into_values().flatten().collect();
        let arrived = total - failed.len();
        let (mut again, spared): (Vec<_>, Vec<_>) = failed
            .into_iter()
            .partition(|it| is_worth_sending_again(&it.event, it.action.as_deref()));
        again.sort_by_key(Attempt::age);
        Plan { arrived, spared: spared.len(), again, others: self.others }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::*;

    fn attempt(id: u64, guid: &str, code: i64, (event, action): (&str, &str)) -> Attempt {
        Attempt {
            id,
            guid: guid.to_owned(),
            delivered_at: Timestamp::from_second(1_793_000_000 + i64::try_from(id % 1000).unwrap())
                .unwrap(),
            status: if code == 202 { "OK" } else { "failed" }.to_owned(),
            status_code: Some(code),
            event: event.to_owned(),
            action: Some(action.to_owned()),
            repository_id: Some(7),
        }
    }

    fn planned(attempts: impl IntoIterator<Item = Attempt>) -> Plan {
        let mut deliveries = Deliveries::default();
        deliveries.add(attempts);
        deliveries.plan()
    }

    const JOB: (&str, &str) = ("workflow_job", "completed");

    #[test]
    fn a_delivery_is_sent_again_when_none_of_its_attempts_arrived() {
        let job = |id, code| attempt(id, "a", code, JOB);
        for (what, attempts, again) in [
            ("it arrived", vec![job(1, 202)], None),
            ("any 2xx will do", vec![job(1, 204)], None),
            ("refused", vec![job(1, 503)], Some(1)),
            ("redirected", vec![job(1, 302)], Some(1)),
            ("no answer", vec![job(1, 0)], Some(1)),
            ("no code at all", vec![Attempt { status_code: None, ..job(1, 0) }], Some(1)),
            ("sent again in vain", vec![job(2, 503), job(1, 503)], Some(2)),
            ("sent again, listed the other way round", vec![job(1, 503), job(2, 502)], Some(2)),
            ("sent again and arrived", vec![job(2, 202), job(1, 503)], None),
            ("sent again in vain after it had arrived", vec![job(2, 503), job(1, 202)], None),
            ("arrived between failures", vec![job(3, 500), job(2, 200), job(1, 503)], None),
            ("an id beyond 32 bits", vec![job(1 << 40, 503)], Some(1 << 40)),
        ] {
            let plan = planned(attempts);
            assert_eq!(plan.again.first().map(|it| it.id), again, "{what}");
            assert_eq!(plan.arrived, usize::from(again.is_none()), "{what}");
        }
    }

    #[test]
    fn only_deliveries_that_give_spans_are_sent_again() {
        for (event, action, again) in [
            ("workflow_job", "completed", true),
            ("workflow_job", "queued", false),
            ("workflow_job", "waiting", false),
            ("workflow_job", "in_progress", false),
            ("workflow_job", "invented_tomorrow", true),
            ("workflow_run", "completed", true),
            ("workflow_run", "requested", true),
            ("workflow_run", "in_progress", false),
            ("ping", "", false),
            ("push", "", false),
            ("check_run", "completed", false),
        ] {
            let plan = planned([attempt(1, "a", 503, (event, action))]);
            assert_eq!(plan.again.len(), usize::from(again), "{event} {action}");
            let of_ours = event.starts_with("workflow_");
            assert_eq!(
                (plan.spared, plan.others),
                (usize::from(of_ours && !again), usize::from(!of_ours))
            );
        }
    }

    #[test]
    fn a_listed_attempt_is_read_with_what_may_be_missing() {
        // The example of GitHub's documentation, and the least that there may be.
        let listed = r#"[
            {"id": 12345678, "guid": "0b989ba4-242f-11e5-81e1-c7b6966d2516", "delivered_at": "2019-06-03T00:57:16Z",
             "redelivery": false, "duration": 0.27, "status": "OK", "status_code": 200, "event": "issues",
             "action": "opened", "installation_id": 123, "repository_id": 456, "throttled_at": "2019-06-03T00:57:16Z"},
            {"id": 12345678901, "guid": "g", "delivered_at": "2026-11-20T10:00:00.123Z", "status_code": 0,
             "status": "timed out", "event": "workflow_job", "action": null, "repository_id": null}]"#;
        let listed: Vec<Attempt> = serde_json::from_str(listed).unwrap();
        assert!(listed[0].arrived() && !listed[1].arrived());
        assert_eq!(
            (listed[1].id, &listed[1].action, listed[1].repository_id),
            (12_345_678_901, &None, None)
        );
    }

    prop_compose! {
        fn attempts()(of in prop::collection::vec((0..6_u8, prop::sample::select(vec![0, 202, 500, 503]), any::<bool>()), 0..40))
            -> Vec<Attempt> {
            of.into_iter().enumerate().map(|(id, (guid, code, job))| {
                let kind = if job { JOB } else { ("workflow_run", "in_progress") };
                // A delivery has one event.
                attempt(id as u64, &format!("{guid}{}", kind.0), code, kind)
            }).collect()
        }
    }

    proptest! {
        #[test]
        fn the_order_of_the_list_does_not_matter(
            (listed, shuffled) in attempts().prop_flat_map(|it| (Just(it.clone()), Just(it).prop_shuffle()))
        ) {
            prop_assert_eq!(planned(listed), planned(shuffled));
        }

        #[test]
        fn what_did_not_arrive_is_sent_again_once_by_its_newest_attempt(listed in attempts()) {
            let arrived: HashSet<_> = listed.iter().filter(|it| it.arrived()).map(|it| &it.guid).collect();
            let mut newest = HashMap::new();
            for it in listed.iter().filter(|it| it.event == JOB.0 && !arrived.contains(&it.guid)) {
                newest.insert(&it.guid, it.id);
            }
            let mut expected: Vec<_> = newest.into_values().collect();
            expected.sort_unstable();
            let again: Vec<_> = planned(listed.clone()).again.iter().map(|it| it.id).collect();
            prop_assert_eq!(again, expected);
        }

        #[test]
        fn once_all_of_it_arrived_nothing_is_left(listed in attempts()) {
            let again = planned(listed.clone()).again;
            let arrived = again.into_iter().map(|it| Attempt { id: it.id + 100, status_code: Some(202), ..it });
            prop_assert_eq!(planned(listed.into_iter().chain(arrived)).again, vec![]);
        }
    }
}
