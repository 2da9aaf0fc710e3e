//! Three weeks over each change of the clock: with every step the leader dies at another of its requests to the ledger,
//! before it got there or before the answer came back, until it has died at every one of them, several times over; comes
//! back as a leader of the past; and the ledger's clock steps by up to five minutes either way.
//! Every due time must have its one job; which those are is found here by walking over the minutes.

use crate::world::{World, tick_and_die};
use chrono::{DateTime, NaiveDateTime, TimeDelta, Timelike as _, Utc};
use chrono_tz::Tz;
use domain::{AccountId, jitter};
use scheduler::duties::tick;
use std::collections::BTreeMap;
use store::{Fire, Leadership};

const SEED_VARIABLE: &str = "SERVANT_TEST_SEED";
/// As long as a leader's lease is good, in seconds; less than every step, so that another takes over at once.
const LEASE_SECS: u32 = 4;

/// Requests of a tick that fires: two reads, and the transaction's beginning, its two statements and its end.
const FIRING_REQUESTS_MIN: u64 = 6;

/// What a schedule is, for the walk: minutes and hours of the wall clock; no hours: all of them.
struct Wanted {
    name: &'static str,
    zone: Tz,
    minute: u32,
    hours: &'static [u32],
    jitter_secs: u32,
}

const WANTED: [Wanted; 6] = [
    Wanted { name: "daily", zone: Tz::Europe__Berlin, minute: 30, hours: &[2], jitter_secs: 0 },
    Wanted { name: "twice", zone: Tz::Europe__Berlin, minute: 30, hours: &[2, 14], jitter_secs: 0 },
    Wanted { name: "hourly", zone: Tz::Europe__Berlin, minute: 0, hours: &[], jitter_secs: 0 },
    Wanted { name: "spread", zone: Tz::Europe__Berlin, minute: 15, hours: &[2, 3], jitter_secs: 3_600 },
    Wanted { name: "western", zone: Tz::America__New_York, minute: 5, hours: &[1, 2], jitter_secs: 0 },
    Wanted { name: "half", zone: Tz::Australia__Lord_Howe, minute: 45, hours: &[1, 2], jitter_secs: 0 },
];

impl Wanted {
    fn toml(&self) -> String {
        let hours = self.hours.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let hours = if hours.is_empty() { "*".to_owned() } else { hours };
        format!(
            "{{ name = \"{}\", cron = \"{} {hours} * * *\", zone = \"{}\", jitter_secs = {}, overlap = \"allow\", \
             catch_up_max = 100 }}",
            self.name,
            self.minute,
            self.zone.name(),
            self.jitter_secs
        )
    }

    fn matches(&self, reading: NaiveDateTime) -> bool {
        reading.minute() == self.minute && (self.hours.is_empty() || self.hours.contains(&reading.hour()))
    }

    /// Due times after `from` and not after `to`.
    fn walk(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        let offset = jitter(AccountId::SYSTEM, self.name, self.jitter_secs);
        // What is due after the start may lie before it without the offset.
        let mut at = (from - TimeDelta::hours(2)).with_second(0).unwrap();
        let mut reached = at.with_timezone(&self.zone).naive_local();
        let mut due = Vec::new();
        while at <= to {
            at += TimeDelta::minutes(1);
            let reading = at.with_timezone(&self.zone).naive_local();
            let fires = if self.hours.is_empty() {
                self.matches(reading)
            } else {
                let mut passed = false;
                while reached < reading {
                    reached += TimeDelta::minutes(1);
                    passed |= self.matches(reached);
                }
                passed
            };
            if fires && at + offset > from && at + offset <= to {
                due.push(at + offset);
            }
        }
        due
    }
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: i64) -> i64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        i64::try_from((z ^ (z >> 31)) % u64::try_from(below).unwrap()).unwrap()
    }
}

/// What a leader has decided on.
async fn decide(world: &World) -> Vec<Fire> {
    let due = world.office.store.due_schedules(1_000).await.unwrap();
    let decided = due.into_iter().map(|schedule| {
        let decision = schedule.plan().unwrap().decide(schedule.due_at, world.clock.now());
        assert_eq!(decision.dropped, 0, "{}", schedule.name);
        let (fires, next) = (decision.fires, decision.next);
        Fire { id: schedule.id, due_at: schedule.due_at, fires, dropped: 0, next }
    });
    decided.collect()
}

async fn next_leader(world: &World, number: i64, seed: u64) -> Leadership {
    let lead = world.office.store.lead(&format!("boot-{number}"), LEASE_SECS).await.unwrap();
    lead.unwrap_or_else(|| panic!("the lead of a dead leader runs out, {SEED_VARIABLE}={seed}"))
}

async fn weeks(start: &str) {
    let seed = std::env::var(SEED_VARIABLE)
        .ok()
        .map_or_else(|| u64::try_from(Utc::now().timestamp_micros()).unwrap(), |text| text.parse().unwrap());
    println!("{SEED_VARIABLE}={seed}");
    let mut dice = Dice(seed);
    let schedules = WANTED.iter().map(Wanted::toml).collect::<Vec<_>>().join(", ");
    let world = World::new(start, &schedules).await;
    let start = world.clock.now();
    let first = next_leader(&world, 0, seed).await;
    tick::perform(&world.office, &first).await.unwrap();

    // By the true time; the ledger's clock is off by up to five minutes, another every time.
    let (mut elapsed_secs, mut off_secs, mut number) = (0, 0, 0);
    let (mut deaths, mut rounds) = (0, 0);
    while elapsed_secs < 21 * 86_400 {
        let (step_secs, off_now_secs) = (900 + dice.roll(5 * 3_600), dice.roll(601) - 300);
        elapsed_secs += step_secs;
        world.clock.advance(TimeDelta::seconds(step_secs + off_now_secs - off_secs));
        off_secs = off_now_secs;
        number += 1;
        let dying = next_leader(&world, number, seed).await;
        let decided = decide(&world).await;
        if tick_and_die(&world, &dying, &schedules, deaths / 2, deaths % 2 == 1).await {
            deaths += 1;
        } else if !decided.is_empty() {
            // It had something to fire, and did all of it.
            assert!(deaths / 2 >= FIRING_REQUESTS_MIN, "it died {deaths} times only, {SEED_VARIABLE}={seed}");
            (deaths, rounds) = (0, rounds + 1);
        }
        // It is dead, and so is its lead; a step of the clock back does not make time for a doubled fire.
        world.clock.advance(TimeDelta::seconds(i64::from(LEASE_SECS) + 1));
        elapsed_secs += i64::from(LEASE_SECS) + 1;
        number += 1;
        let successor = next_leader(&world, number, seed).await;
        tick::perform(&world.office, &successor).await.unwrap();
        // Only the compare-and-swap stands between a finished job and its double; unfinished ones are unique besides.
        if dice.roll(2) == 0 {
            finish_all(&world).await;
        }
        let late = world.office.store.fire_schedules(&dying, &decided).await.unwrap();
        assert_eq!(late.jobs, [], "a leader of the past fired, {SEED_VARIABLE}={seed}");
        let doubled = world.office.store.fire_schedules(&successor, &decided).await.unwrap();
        assert_eq!(doubled.jobs, [], "decided before, fired again, {SEED_VARIABLE}={seed}");
    }
    assert!(rounds > 1, "it has not died at every request twice: {rounds} {deaths}, {SEED_VARIABLE}={seed}");
    // Beyond everything that a clock ahead of its time has fired.
    world.clock.advance(TimeDelta::seconds(1_000));
    let last = next_leader(&world, number + 1, seed).await;
    tick::perform(&world.office, &last).await.unwrap();

    let end = world.clock.now();
    let mut made: BTreeMap<String, Vec<DateTime<Utc>>> = BTreeMap::new();
    let rows: Vec<(String, DateTime<Utc>)> = sqlx::query_as(
        "SELECT s.name, j.due_at FROM schedules s
         JOIN (SELECT schedule_id, due_at FROM jobs UNION ALL SELECT schedule_id, due_at FROM finished_jobs) AS j
         ON j.schedule_id = s.id ORDER BY s.name, j.due_at",
    )
    .fetch_all(&world.sql)
    .await
    .unwrap();
    for (name, due) in rows {
        made.entry(name).or_default().push(due);
    }
    for wanted in &WANTED {
        let due = wanted.walk(start, end);
        assert!(due.len() > 18, "{} is due {} times only", wanted.name, due.len());
        assert_eq!(made.get(wanted.name), Some(&due), "{} from {start}, {SEED_VARIABLE}={seed}", wanted.name);
    }
    assert_eq!(made.len(), WANTED.len());
    assert_eq!(world.office.store.count_drift().await.unwrap(), []);
}

async fn finish_all(world: &World) {
    let kind = domain::Kind::new("noop").unwrap();
    let until = world.clock.now() + TimeDelta::seconds(60);
    let jobs = testkit::claim_ready(&world.office.store, domain::ServantId(1), &kind, 1_000, until).await.unwrap();
    let keys: Vec<_> = jobs.iter().map(|job| job.key).collect();
    world.office.store.succeed(&keys).await.unwrap();
}

#[tokio::test]
async fn spring_in_the_north() {
    weeks("2030-03-05T07:11:13Z").await;
}

#[tokio::test]
async fn autumn_in_europe() {
    weeks("2030-10-14T07:11:13Z").await;
}

#[tokio::test]
async fn autumn_in_the_south_and_late_spring_in_europe() {
    weeks("2030-03-25T18:00:00Z").await;
}

#[tokio::test]
async fn autumn_in_america() {
    weeks("2030-10-25T18:00:00Z").await;
}
