//! What is done to a customer: the catalogue of what goes wrong, each by its name, and when it strikes.
//! Does not own how: that is the simulated Salesforce's.

use crate::{
    customer::Customer,
    world::{BULK, RECONCILE, World},
};
use fakes::salesforce::{DataFault, DataOrder, Fault, Mutation, Order, Struck, UsageChange};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use testkit::eventually;

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Harm {
    /// Calls fail, as the dice have it.
    Call(Fault),
    /// Records, fields or objects are hit.
    Data(DataFault),
    /// Other applications use up the allowance of the day.
    Exhaustion,
}

use DataFault as D;
use Fault as F;

/// Everything that is known to go wrong at Salesforce.
pub(crate) const CATALOGUE: [Harm; 54] = [
    Harm::Call(F::Auth401),
    Harm::Call(F::Auth401MidQuery),
    Harm::Exhaustion,
    Harm::Call(F::LimitDaily),
    Harm::Call(F::LimitConcurrent),
    Harm::Call(F::Http429),
    Harm::Call(F::Http429Seconds),
    Harm::Call(F::Http429Date),
    Harm::Call(F::Http500),
    Harm::Call(F::Http502Html),
    Harm::Call(F::Http503),
    Harm::Call(F::Http504),
    Harm::Call(F::Http406),
    Harm::Call(F::Http420Html),
    Harm::Call(F::CutConnection),
    Harm::Call(F::CutBody),
    Harm::Call(F::ResetConnection),
    Harm::Call(F::ResetBody),
    Harm::Call(F::TruncatedGzip),
    Harm::Call(F::WrongContentLength),
    Harm::Call(F::Stall),
    Harm::Call(F::Drip),
    Harm::Call(F::DuplicateReply),
    Harm::Call(F::BadJson),
    Harm::Call(F::QueryTimeout),
    Harm::Call(F::InsufficientAccess),
    Harm::Call(F::CursorExpired),
    Harm::Call(F::BulkJobFailed),
    Harm::Call(F::BulkJobAborted),
    Harm::Call(F::BulkJobStuck),
    Harm::Call(F::BulkJobDeleted),
    Harm::Call(F::BulkLocatorGone),
    Harm::Call(F::BulkVersionConflict),
    Harm::Call(F::BulkCountMismatch),
    Harm::Call(F::BulkPageShort),
    Harm::Call(F::BulkEmptyPage),
    Harm::Call(F::InvalidGrant),
    Harm::Call(F::GrantRevoked),
    Harm::Call(F::RotationRace),
    Harm::Call(F::RotationLost),
    Harm::Call(F::SixthLogin),
    Harm::Data(D::EqualModstamps),
    Harm::Data(D::LateRow),
    Harm::Data(D::BackdatedModstamp),
    Harm::Data(D::FieldRemoved),
    Harm::Data(D::PermissionLost),
    Harm::Data(D::FieldAdded),
    Harm::Data(D::FieldRetyped),
    Harm::Data(D::ObjectGone),
    Harm::Data(D::OddText),
    Harm::Data(D::NaText),
    Harm::Data(D::DamagedRecord),
    Harm::Data(D::Merge),
    Harm::Data(D::Undelete),
];

/// What no stamp tells of: found by comparing, where there is a servant for that.
pub(crate) const UNSTAMPED: [Harm; 3] =
    [Harm::Data(D::HardDelete), Harm::Data(D::VisibilityLost), Harm::Data(D::FormulaDrift)];

/// Of a thousand calls so many are struck, and so many in all.
const PER_MILLE: u16 = 250;
const TIMES: u32 = 5;
/// Calls that are left of an allowance that ends: fewer than any first load needs.
const CALLS_LEFT: u64 = 5;
/// For what takes time.
const MILLIS: u64 = 150;
/// How late a row is seen, or how far back a stamp lies, in seconds.
const LATE_SECS: u32 = 300;
/// Records hit: few enough that no share of an object looks like an accident of our own.
const RECORDS: usize = 3;

/// How often a failing call fails at first.
fn order(fault: Fault, seed: u64) -> Order {
    match fault {
        // What ends a job, a session or a grant strikes once: the next attempt has to go on from there.
        F::InvalidGrant | F::GrantRevoked | F::RotationRace | F::RotationLost | F::SixthLogin => Order::new(fault, 1),
        F::InsufficientAccess | F::Auth401 | F::Auth401MidQuery | F::BulkJobStuck => Order::new(fault, 1),
        // Few calls fit these.
        F::CursorExpired | F::QueryTimeout => Order::new(fault, 2),
        _ if is_of_bulk(fault) => Order::new(fault, 2),
        _ => Order { times: TIMES, ms: MILLIS, ..Order::seeded(fault, seed, PER_MILLE) },
    }
}

fn is_of_bulk(fault: Fault) -> bool {
    format!("{fault:?}").starts_with("Bulk")
}

impl Harm {
    /// What is so from the first call on.
    pub(crate) fn begin(self, customer: &Customer, seed: u64) {
        match self {
            Self::Call(fault) => customer.fake.order(order(fault, seed)),
            Self::Exhaustion => {
                let used = customer.fake.usage(&UsageChange::default()).used;
                let change = UsageChange { daily_limit: Some(used + CALLS_LEFT), ..UsageChange::default() };
                let _ = customer.fake.usage(&change);
            }
            Self::Data(D::DamagedRecord) => drop(self.strike(customer, seed)),
            // Something has to be in the recycle bin.
            Self::Data(D::Undelete) => {
                for object in &customer.objects {
                    let records = customer.fake.truth(object);
                    let ids = records.iter().filter_map(|record| record["Id"].as_str()).take(RECORDS);
                    let delete = ids.map(str::to_owned).collect();
                    drop(customer.fake.mutate(&Mutation { object: object.clone(), delete, ..Mutation::default() }));
                }
            }
            Self::Data(_) => {}
        }
    }

    /// What strikes while a sync is under way, once it has read some pages or is over; names fields that cannot be equal
    /// afterwards.
    pub(crate) async fn strike_under_way(
        self,
        customer: &Customer,
        world: &World,
        seed: u64,
        (pages, is_over): (u64, &AtomicBool),
    ) -> Option<String> {
        let Self::Data(fault) = self else { return None };
        eventually(crate::world::LIMIT, "pages to be read", async || {
            (customer.fake.stats().pages >= pages || is_over.load(Ordering::Relaxed)).then_some(())
        })
        .await;
        let struck = self.strike(customer, seed);
        assert!(struck.is_some(), "{self:?} finds nothing to strike");
        // The column of a field that became another stays as it was, on purpose. Of one that was added no stamp tells:
        // it is read for all records by the servant that compares.
        let stays = fault == D::FieldRetyped || (fault == D::FieldAdded && !world.has(RECONCILE));
        struck?.field.filter(|_| stays)
    }

    /// What has to be put right before everything can be equal.
    pub(crate) fn heal(self, customer: &Customer) {
        match self {
            Self::Exhaustion => {
                let change = UsageChange { daily_limit: Some(100_000), ..UsageChange::default() };
                let _ = customer.fake.usage(&change);
            }
            Self::Data(D::ObjectGone) => {
                for object in &customer.objects {
                    let back = Mutation { object: object.clone(), restore_object: true, ..Mutation::default() };
                    // It is there unless it was the one that was hit.
                    drop(customer.fake.mutate(&back));
                }
            }
            _ => {}
        }
    }

    /// Strikes the first object in which it can; none: there is none.
    fn strike(self, customer: &Customer, seed: u64) -> Option<Struck> {
        let Self::Data(fault) = self else { return None };
        let from = usize::try_from(seed).unwrap_or(0);
        let count = customer.objects.len();
        (0..count).find_map(|step| {
            let object = &customer.objects[(from + step) % count];
            let order = DataOrder { records: RECORDS, secs: LATE_SECS, ..DataOrder::new(fault, object, seed) };
            let struck = customer.fake.data_fault(&order).ok()?;
            if fault == D::DamagedRecord {
                // A damage moves no stamp; whoever has read the record already must see it again.
                let touch = |id: &String| json!({ "Id": id }).as_object().cloned().unwrap_or_default();
                let upsert: Vec<serde_json::Map<String, Value>> = struck.ids.iter().map(touch).collect();
                drop(customer.fake.mutate(&Mutation { object: object.clone(), upsert, ..Mutation::default() }));
            }
            Some(struck)
        })
    }

    /// Whether it was given at least once: a harm that never struck proves nothing.
    pub(crate) fn has_struck(self, customer: &Customer, world: &World, seed: u64) -> bool {
        let Self::Call(fault) = self else { return true };
        if is_of_bulk(fault) && !world.has(BULK) {
            return true;
        }
        let left = customer.fake.pending_faults().iter().find(|order| order.fault == fault).map_or(0, |o| o.times);
        left < order(fault, seed).times
    }
}
