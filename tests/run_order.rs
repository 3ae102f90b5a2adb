//! The order in which the step machine does things: what must come before what, what waits for
//! nothing, and how hard a service is pressed.

mod support;

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use jiff::{SignedDuration, Timestamp};
use service_connector::model::actual::TroubleKind;
use service_connector::model::guard;
use service_connector::model::name::{OpId, ServiceId};
use service_connector::model::outcome::{
    Answer, Failure, FailureKind, Found, IssueAnswer, Recorded,
};
use service_connector::model::plan::Scope;
use service_connector::model::registry::{Contract, Limits};
use service_connector::model::run::{Busy, Effect, Event, Run, Setting, Ticket};
use service_connector::model::token::{Move, Phase};

use support::fleet::{
    change_service, newcomers, service, settled, settled_at, unwant, user, want_all,
};
use support::given::Given;
use support::services::{Behaviour, Mood, Services};
use support::simulated::{self, Applied, Happened};

const SECOND: SignedDuration = SignedDuration::from_secs(1);

fn place(applied: &Applied, fits: impl Fn(&Happened) -> bool) -> Option<usize> {
    applied.log.iter().position(|(_, happened)| fits(happened))
}

fn calls_of(applied: &Applied, id: &ServiceId) -> Vec<(Timestamp, OpId)> {
    let call = |(at, happened): &(Timestamp, Happened)| match happened {
        Happened::Called(service, op) if service == id => Some((*at, op.clone())),
        _ => None,
    };
    applied.log.iter().filter_map(call).collect()
}

fn behave(services: &mut Services, number: usize, mood: Mood, latency: SignedDuration) {
    let behaviour = Behaviour { latency, mood, ..Behaviour::default() };
    services.set(service(number).as_str(), behaviour);
}

fn new_run(given: &Given) -> Run {
    let instance = "00000000000000aa".parse().unwrap();
    Run::new(&given.registry, instance, Box::new(|| 7))
}

/// Has a run take over the plan of now.
fn take_over(run: &mut Run, given: &Given) {
    let (approved, _) = guard::approve(given.plan(), &given.limits);
    let setting = Setting {
        desired: Some(&given.desired),
        registry: &given.registry,
        actual: &given.actual,
        now: given.now,
        retry_now: false,
    };
    run.absorb(approved, &setting, &Busy::default());
}

fn phases(given: &Given) -> Vec<Phase> {
    given.actual.tokens_of(&user(0), &service(0)).iter().map(|token| token.phase).collect()
}

#[test]
fn a_dead_service_delays_no_other_key_of_the_same_user() {
    let mut given = newcomers(1, 2);
    let mut services = Services::default();
    behave(&mut services, 0, Mood::Silent, SECOND * 10);
    behave(&mut services, 1, Mood::Well, SECOND / 20);
    let applied = simulated::pass(&mut given, &mut services);
    let put =
        place(&applied, |happened| matches!(happened, Happened::Put(_, ops) if ops.len() == 1));
    let dead = place(
        &applied,
        |happened| matches!(happened, Happened::Answered(id, _) if *id == service(0)),
    );
    assert!(put.unwrap() < dead.unwrap(), "{:#?}", applied.log);
    let waited = applied.log[put.unwrap()].0.duration_since(applied.log[0].0);
    assert!(waited < SECOND, "the key came to the home after {waited}");
}

#[test]
fn a_slow_key_comes_to_the_home_in_the_same_pass_by_a_second_put() {
    let mut given = newcomers(1, 2);
    let mut services = Services::default();
    behave(&mut services, 0, Mood::Well, SECOND * 5);
    let applied = simulated::pass(&mut given, &mut services);
    let puts: Vec<usize> = applied
        .log
        .iter()
        .filter_map(|(_, happened)| match happened {
            Happened::Put(_, ops) => Some(ops.len()),
            _ => None,
        })
        .collect();
    assert_eq!(puts, [1, 2]);
    assert!(given.plan().is_empty());
}

#[test]
fn keys_that_come_together_make_one_put() {
    let mut given = newcomers(1, 8);
    let applied = simulated::pass(&mut given, &mut Services::default());
    let puts = applied.log.iter().filter(|(_, happened)| matches!(happened, Happened::Put(..)));
    assert_eq!(puts.count(), 1);
}

#[test]
fn a_dead_service_delays_no_other_user_and_is_soon_left_alone() {
    let mut given = newcomers(40, 2);
    let mut services = Services::default();
    behave(&mut services, 0, Mood::Silent, SECOND * 10);
    let applied = simulated::pass(&mut given, &mut services);
    assert!(calls_of(&applied, &service(0)).len() <= 10, "one round of its concurrency, and two");
    assert_eq!(calls_of(&applied, &service(1)).len(), 40);
    let puts = applied.log.iter().filter(|(_, happened)| matches!(happened, Happened::Put(..)));
    let last = puts.map(|(at, _)| *at).max().unwrap();
    assert!(last.duration_since(applied.log[0].0) < SECOND);
    let trouble = &given.actual.troubles[&service(0)];
    assert_eq!(trouble.kind, TroubleKind::Down);
    let before = given.actual.tokens.len();
    assert_eq!(before, 40, "whoever was never asked about has no token of the dead service");
    assert!(given.plan().actions.is_empty(), "it is left alone until {}", trouble.until);
}

#[test]
fn a_service_in_trouble_is_asked_by_one_call_first() {
    let mut given = newcomers(20, 1);
    let mut services = Services::default();
    behave(&mut services, 0, Mood::Silent, SECOND);
    simulated::pass(&mut given, &mut services);
    given.now = given.actual.troubles[&service(0)].until + SECOND;
    let applied = simulated::pass(&mut given, &mut services);
    assert_eq!(calls_of(&applied, &service(0)).len(), 1);
    given.now = given.actual.troubles[&service(0)].until + SECOND * 3600;
    behave(&mut services, 0, Mood::Well, SECOND);
    simulated::pass(&mut given, &mut services);
    assert!(given.actual.troubles.is_empty());
    assert!(given.plan().is_empty());
    assert_eq!(given.actual.tokens.len(), 20);
}

#[test]
fn a_refused_secret_stops_everybodys_calls_at_once() {
    let mut given = newcomers(40, 1);
    let mut services = Services::default();
    behave(&mut services, 0, Mood::RefusesSecret, SECOND);
    let applied = simulated::pass(&mut given, &mut services);
    assert!(calls_of(&applied, &service(0)).len() <= 8);
    assert_eq!(given.actual.troubles[&service(0)].kind, TroubleKind::SecretRefused);
    let failed = applied.outcomes.iter().filter(|o| matches!(o.found, Found::Failed(_))).count();
    assert_eq!(failed, 40, "each user is told");
}

#[test]
fn a_service_is_never_pressed_harder_than_its_limits() {
    for (concurrency, per_minute) in [(1, 600), (3, 20), (8, 5), (50, 600)] {
        let mut given = newcomers(60, 1);
        change_service(&mut given, &service(0), |entry| {
            let (concurrency, per_minute) =
                (NonZeroU32::new(concurrency).unwrap(), NonZeroU32::new(per_minute).unwrap());
            entry.limits = Limits { concurrency, per_minute };
        });
        let mut services = Services::default();
        behave(&mut services, 0, Mood::Well, SECOND);
        let applied = simulated::pass(&mut given, &mut services);
        let (mut under_way, mut most) = (0u32, 0u32);
        for (_, happened) in &applied.log {
            match happened {
                Happened::Called(..) => under_way += 1,
                Happened::Answered(..) => under_way -= 1,
                _ => {}
            }
            most = most.max(under_way);
        }
        assert!(most <= concurrency, "{most} calls at once");
        let calls = calls_of(&applied, &service(0));
        assert_eq!(calls.len(), 60);
        for (start, _) in &calls {
            let minute = calls.iter().filter(|(at, _)| at >= start && *at < *start + SECOND * 60);
            assert!(minute.count() <= per_minute as usize, "from {start}");
        }
    }
}

#[test]
fn each_call_is_preceded_by_its_record() {
    let mut given = settled_at(6, 3, "2026-09-03T00:00:00Z");
    unwant(&mut given, 0, 0);
    unwant(&mut given, 0, 1);
    for number in 0..3 {
        change_service(&mut given, &service(number), |entry| entry.grace_days = 0);
    }
    let applied = simulated::pass(&mut given, &mut Services::default());
    let mut recorded: BTreeSet<&OpId> = BTreeSet::new();
    let mut calls = 0;
    for (_, happened) in &applied.log {
        match happened {
            Happened::Began(op) | Happened::Moved(op, Move::Unwant) => {
                recorded.insert(op);
            }
            Happened::Called(_, op) => {
                calls += 1;
                assert!(recorded.contains(op), "{op} was called before it was recorded");
            }
            _ => {}
        }
    }
    assert_eq!(calls, 16 + 18, "16 renewals, 18 revokes");
}

#[test]
fn a_delayed_revoke_waits_until_the_new_key_is_in_the_home() {
    let mut given = settled_at(1, 1, "2026-09-03T00:00:00Z");
    change_service(&mut given, &service(0), |entry| entry.grace_days = 0);
    let applied = simulated::pass(&mut given, &mut Services::default());
    let put = place(&applied, |happened| matches!(happened, Happened::Put(..))).unwrap();
    let unwant = place(&applied, |h| matches!(h, Happened::Moved(_, Move::Unwant))).unwrap();
    assert!(put < unwant);
}

#[test]
fn a_disconnect_revokes_and_cleans_in_one_pass_and_neither_waits_for_the_other() {
    let mut given = settled(1, 1);
    unwant(&mut given, 0, 0);
    let mut services = Services::default();
    behave(&mut services, 0, Mood::Silent, SECOND * 10);
    let applied = simulated::pass(&mut given, &mut services);
    let put = place(&applied, |happened| matches!(happened, Happened::Put(..))).unwrap();
    let answered = place(&applied, |h| matches!(h, Happened::Answered(..))).unwrap();
    assert!(put < answered);
    assert_eq!(phases(&given), [Phase::Revoking], "a debt");
    behave(&mut services, 0, Mood::Well, SECOND);
    given.now += SECOND * 7200;
    simulated::pass(&mut given, &mut services);
    assert!(given.actual.tokens.is_empty());
}

/// What becomes of a new connection's token after one pass, and after another an hour later.
fn after_mood(mood: Mood, contract: Contract) -> (Vec<Phase>, Vec<Phase>, bool) {
    let mut given = newcomers(1, 1);
    change_service(&mut given, &service(0), |entry| entry.endpoint.contract = contract);
    let mut services = Services::default();
    behave(&mut services, 0, mood, SECOND);
    simulated::pass(&mut given, &mut services);
    let first = phases(&given);
    let op = given.actual.tokens_of(&user(0), &service(0)).first().map(|token| token.op.clone());
    given.now += SECOND * 7200;
    behave(&mut services, 0, Mood::Well, SECOND);
    simulated::pass(&mut given, &mut services);
    let tokens = given.actual.tokens_of(&user(0), &service(0));
    let same = tokens.last().map(|token| &token.op) == op.as_ref();
    (first, phases(&given), same)
}

#[test]
fn each_answer_to_an_exchange_leads_where_the_table_says() {
    let v2 = |mood| after_mood(mood, Contract::V2);
    let (issuing, active, owed) =
        (vec![Phase::Issuing], vec![Phase::Active], vec![Phase::Revoking]);
    assert_eq!(v2(Mood::Well), (active.clone(), active.clone(), true));
    for unknown in [Mood::LosesAnswers, Mood::Silent, Mood::Rejects, Mood::RefusesSecret] {
        assert_eq!(v2(unknown), (issuing.clone(), active.clone(), true), "{unknown:?}");
    }
    for refused in [Mood::BadKey, Mood::Conflicts] {
        assert_eq!(v2(refused), (owed.clone(), active.clone(), false), "{refused:?}");
    }
    assert_eq!(v2(Mood::SaysGone), (vec![], active.clone(), false));
}

#[test]
fn over_v1_nothing_is_asked_again_under_the_same_op() {
    let v1 = |mood| after_mood(mood, Contract::V1);
    let active = vec![Phase::Active];
    assert_eq!(v1(Mood::Well), (active.clone(), active.clone(), true));
    for mood in [Mood::LosesAnswers, Mood::Silent, Mood::Rejects, Mood::RefusesSecret, Mood::BadKey]
    {
        assert_eq!(v1(mood), (vec![], active.clone(), false), "{mood:?}");
    }
}

#[test]
fn a_failure_is_not_tried_again_before_its_backoff_is_over_and_waits_grow() {
    let mut given = newcomers(1, 1);
    let mut services = Services::default();
    behave(&mut services, 0, Mood::Rejects, SECOND);
    let mut waits = Vec::new();
    for _ in 0..4 {
        simulated::pass(&mut given, &mut services);
        assert!(given.plan().is_empty());
        let until = given.actual.backoffs[&user(0)][&service(0)].until;
        waits.push(until.duration_since(given.now));
        given.now = until;
        assert!(!given.plan().is_empty());
    }
    assert!(waits.windows(2).all(|pair| pair[1] > pair[0]), "{waits:?}");
}

#[test]
fn another_wish_makes_a_backoff_void() {
    let mut given = newcomers(1, 1);
    let mut services = Services::default();
    behave(&mut services, 0, Mood::Rejects, SECOND);
    simulated::pass(&mut given, &mut services);
    assert!(given.plan().is_empty());
    let entry = given.desired.users.get_mut(&user(0)).unwrap();
    entry.connections.get_mut(&service(0)).unwrap().ttl_days = Some(30);
    assert!(!given.plan().is_empty());
}

#[test]
fn a_clock_that_is_off_is_noticed_and_stops_renewals_until_it_agrees_again() {
    let mut given = settled_at(20, 1, "2026-09-03T00:00:00Z");
    let mut services = Services::default();
    let ahead = SignedDuration::from_mins(9);
    services.set("s00", Behaviour { ahead, latency: SECOND, ..Behaviour::default() });
    let applied = simulated::pass(&mut given, &mut services);
    assert!(calls_of(&applied, &service(0)).len() <= 8, "the others were withdrawn");
    assert_eq!(given.actual.troubles[&service(0)].kind, TroubleKind::ClockSkew);
    assert!(given.plan().is_empty());
    given.now += SECOND * 7200;
    let applied = simulated::pass(&mut given, &mut services);
    assert_eq!(calls_of(&applied, &service(0)).len(), 1, "one renewal looks again");
    assert!(given.plan().is_empty());
    services.set("s00", Behaviour::default());
    given.now += SECOND * 7200;
    simulated::pass(&mut given, &mut services);
    assert!(given.actual.troubles.is_empty());
    assert!(given.plan().is_empty());
}

#[test]
fn a_clock_that_is_set_back_keeps_nobody_waiting_for_a_turn() {
    let mut given = newcomers(2, 1);
    change_service(&mut given, &service(0), |entry| {
        let (concurrency, per_minute) = (NonZeroU32::new(8).unwrap(), NonZeroU32::MIN);
        entry.limits = Limits { concurrency, per_minute };
    });
    let mut run = new_run(&given);
    take_over(&mut run, &given);
    let mut begun = |now, event| {
        let effects = run.next(now, event);
        effects.iter().filter(|effect| matches!(effect, Effect::Record(..))).count()
    };
    assert_eq!(begun(given.now, Event::Start), 1, "one a minute");
    assert_eq!(begun(given.now + SECOND, Event::Woke), 0);
    assert_eq!(begun(given.now - SECOND * 3600, Event::Woke), 1);
    assert_eq!(begun(given.now - SECOND * 3599, Event::Woke), 0);
}

#[test]
fn who_is_next_has_an_op_id_before_the_turn_comes_but_not_over_v1() {
    let begun_before_the_first_answer = |contract| {
        let mut given = newcomers(40, 1);
        change_service(&mut given, &service(0), |entry| entry.endpoint.contract = contract);
        let applied = simulated::pass(&mut given, &mut Services::default());
        let first = place(&applied, |what| matches!(what, Happened::Answered(..))).unwrap();
        let began = |(_, what): &&(Timestamp, Happened)| matches!(what, Happened::Began(_));
        applied.log[..first].iter().filter(began).count()
    };
    assert_eq!(begun_before_the_first_answer(Contract::V2), 16, "8 at once, and 8 come next");
    assert_eq!(begun_before_the_first_answer(Contract::V1), 8);
}

#[test]
fn no_plan_is_made_before_the_removals_of_the_last_one_are_on_disk() {
    let mut given = settled(8, 1);
    unwant(&mut given, 0, 0);
    let mut run = new_run(&given);
    assert!(run.is_journaled());
    take_over(&mut run, &given);
    assert!(!run.is_journaled());
    let effects = run.next(given.now, Event::Start);
    let [Effect::Record(ticket, _)] = &effects[..] else { panic!("first of all it is recorded") };
    assert!(!run.is_journaled());
    run.next(given.now, Event::Recorded(*ticket, Ok(Recorded::default())));
    assert!(run.is_journaled());
}

/// The machine alone. All that it writes down is on disk at once; its calls wait for an answer.
struct Machine<'a> {
    given: &'a mut Given,
    run: Run,
    calls: Vec<(ServiceId, Ticket)>,
}

impl<'a> Machine<'a> {
    fn new(given: &'a mut Given) -> Self {
        let run = new_run(given);
        Self { given, run, calls: Vec::new() }
    }

    /// Takes over a plan of these users.
    fn plan(&mut self, users: std::ops::Range<usize>) {
        self.given.scope = Scope::of_users(users.map(user));
        take_over(&mut self.run, self.given);
        self.happens(Event::Start);
    }

    fn happens(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for effect in self.run.next(self.given.now, event) {
                match effect {
                    Effect::Record(ticket, _) => {
                        events.push(Event::Recorded(ticket, Ok(Recorded::default())));
                    }
                    Effect::Issue { ticket, of: (_, service), .. } => {
                        self.calls.push((service, ticket));
                    }
                    _ => {}
                }
            }
        }
    }

    fn calls_of(&self, number: usize) -> usize {
        self.calls.iter().filter(|(id, _)| *id == service(number)).count()
    }

    /// All calls to this service that are under way fail like this.
    fn fail(&mut self, number: usize, kind: FailureKind) {
        let calls = self.calls.extract_if(.., |(id, _)| *id == service(number));
        for (_, ticket) in calls.collect::<Vec<_>>() {
            let failure = Failure { kind, message: "no".to_owned(), retry_after: None };
            let answer = Answer { date: None, what: IssueAnswer::Failed(failure) };
            self.happens(Event::Issued(ticket, answer));
        }
    }
}

#[test]
fn a_service_that_was_given_up_is_tried_by_one_call_of_a_later_plan_once_it_is_due() {
    let mut given = newcomers(20, 1);
    let mut machine = Machine::new(&mut given);
    machine.plan(0..4);
    assert_eq!(machine.calls_of(0), 4);
    machine.fail(0, FailureKind::Unreached);
    machine.given.now += SECOND;
    machine.plan(4..8);
    assert_eq!(machine.calls_of(0), 0, "not yet");
    machine.given.now += SECOND * 60;
    machine.plan(8..12);
    assert_eq!(machine.calls_of(0), 1, "one goes first");
    machine.fail(0, FailureKind::Rejected);
    assert_eq!(machine.calls_of(0), 3, "it answers again");
}

#[test]
fn a_run_that_winds_down_takes_others_along_until_its_last_call_has_ended() {
    let mut given = newcomers(22, 2);
    let mut machine = Machine::new(&mut given);
    machine.plan(0..20);
    assert_eq!((machine.calls_of(0), machine.calls_of(1)), (8, 8), "12 each are waiting");
    machine.happens(Event::WindDown);
    machine.fail(1, FailureKind::Rejected);
    assert_eq!(machine.calls_of(1), 0, "who was waiting is left to the next");
    machine.plan(20..21);
    assert_eq!((machine.calls_of(0), machine.calls_of(1)), (8, 1), "where nothing hangs");
    machine.fail(1, FailureKind::Rejected);
    assert!(!machine.run.is_done());
    machine.fail(0, FailureKind::Rejected);
    assert!(machine.run.is_done() && machine.run.was_cut_short());
    machine.plan(21..22);
    assert_eq!((machine.calls_of(0), machine.calls_of(1)), (0, 0));
}

#[test]
fn a_service_whose_clock_is_off_and_that_is_down_is_left_alone_as_any_other() {
    let mut given = settled_at(20, 1, "2026-09-03T00:00:00Z");
    let mut services = Services::default();
    let ahead = SignedDuration::from_mins(9);
    services.set("s00", Behaviour { ahead, latency: SECOND, ..Behaviour::default() });
    simulated::pass(&mut given, &mut services);
    assert_eq!(given.actual.troubles[&service(0)].kind, TroubleKind::ClockSkew);
    // Renewals look again after a while, and find that it does not answer.
    given.now += SECOND * 7200;
    let silent = Behaviour { ahead, latency: SECOND, mood: Mood::Silent, ..Behaviour::default() };
    services.set("s00", silent);
    simulated::pass(&mut given, &mut services);
    let trouble = &given.actual.troubles[&service(0)];
    assert_eq!(trouble.kind, TroubleKind::SkewedAndShut);
    // Nobody is asked for before its time, and then one call goes first.
    let until = trouble.until;
    want_all(&mut given, 30, 1);
    assert!(given.plan().actions.is_empty(), "not before {until}");
    given.now = until + SECOND;
    let applied = simulated::pass(&mut given, &mut services);
    assert_eq!(calls_of(&applied, &service(0)).len(), 1);
    // It answers, and its clock is off as before: keys come, and nothing is renewed.
    given.now = given.actual.troubles[&service(0)].until + SECOND;
    services.set("s00", Behaviour { ahead, latency: SECOND, ..Behaviour::default() });
    simulated::pass(&mut given, &mut services);
    assert_eq!(given.actual.troubles[&service(0)].kind, TroubleKind::ClockSkew);
    assert_eq!(given.actual.tokens.len(), 30);
}
