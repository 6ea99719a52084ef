//! Resource locks of procedures: who may run now.
//!
//! Invariants:
//! - Pure: who holds what follows from the records alone. There is no lock row that could be left behind, and
//!   a restarted runner finds the locks as they were.
//! - A procedure gets all of its locks at once, and asks for no more later: there is no deadlock.
//! - Along each resource the order is that of the tickets: a procedure never overtakes an earlier one that
//!   waits for something it needs in a conflicting mode, so that none starves.

use std::collections::BTreeMap;
use std::fmt;

use super::id::ProcedureId;
use crate::kv::Revision;

/// How a resource is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockMode {
    /// Together with others that share it.
    Shared,
    /// Alone.
    Exclusive,
}

impl fmt::Display for LockMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shared => "shared",
            Self::Exclusive => "exclusive",
        })
    }
}

/// The locks that a procedure needs for as long as it runs: each resource once, in the stronger mode.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Locks(BTreeMap<String, LockMode>);

impl Locks {
    /// None.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds `resource` for this procedure alone. Resources are texts such as `table/1024`; that one lies
    /// within another means nothing here: name both.
    #[must_use]
    pub fn exclusive(mut self, resource: impl Into<String>) -> Self {
        self.0.insert(resource.into(), LockMode::Exclusive);
        self
    }

    /// Adds `resource`, to be shared.
    #[must_use]
    pub fn shared(mut self, resource: impl Into<String>) -> Self {
        self.0.entry(resource.into()).or_insert(LockMode::Shared);
        self
    }

    /// A resource that cannot be held by both at once, if there is one.
    #[must_use]
    pub fn conflict<'a>(&'a self, other: &Self) -> Option<&'a str> {
        let alone = |resource: &str, mode: LockMode| {
            other.0.get(resource).is_some_and(|held| mode == LockMode::Exclusive || *held == LockMode::Exclusive)
        };
        self.iter().find(|(resource, mode)| alone(resource, *mode)).map(|(resource, _)| resource)
    }

    /// Whether who holds these may do whatever who holds `other` may.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.iter().all(|(resource, mode)| self.0.get(resource).is_some_and(|held| *held >= mode))
    }

    /// The resources with their modes, in byte order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, LockMode)> {
        self.0.iter().map(|(resource, mode)| (resource.as_str(), *mode))
    }
}

/// What a procedure has to do with its locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It waits for them.
    Waits,
    /// It holds them.
    Holds,
    /// It is over.
    Over,
}

/// A procedure as the grants see it.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// Its place in the queue.
    pub ticket: Revision,
    /// Its name; decides among equal tickets.
    pub id: &'a ProcedureId,
    /// Whether it waits.
    pub standing: Standing,
    /// What it needs.
    pub locks: &'a Locks,
}

/// Those that wait and may run now, in order of their tickets.
pub fn plan_grants<'a>(claims: impl IntoIterator<Item = Claim<'a>>) -> Vec<&'a ProcedureId> {
    let (mut waiting, mut claimed) = (Vec::new(), BTreeMap::new());
    for claim in claims {
        match claim.standing {
            Standing::Holds => take(&mut claimed, claim.locks),
            Standing::Waits => waiting.push(claim),
            Standing::Over => {}
        }
    }
    waiting.sort_by_key(|claim| (claim.ticket, claim.id));
    let mut granted = Vec::new();
    for claim in waiting {
        if claim.locks.iter().all(|(resource, mode)| fits(&claimed, resource, mode)) {
            granted.push(claim.id);
        }
        // Also when it has to wait: who comes later does not pass it.
        take(&mut claimed, claim.locks);
    }
    granted
}

fn fits(claimed: &BTreeMap<&str, LockMode>, resource: &str, mode: LockMode) -> bool {
    match claimed.get(resource) {
        None => true,
        Some(held) => *held == LockMode::Shared && mode == LockMode::Shared,
    }
}

fn take<'a>(claimed: &mut BTreeMap<&'a str, LockMode>, locks: &'a Locks) {
    for (resource, mode) in locks.iter() {
        let held = claimed.entry(resource).or_insert(mode);
        *held = (*held).max(mode);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(number: usize) -> ProcedureId {
        format!("p{number:03}").parse().unwrap()
    }

    fn grants(claims: &[(u64, Standing, Locks)]) -> Vec<usize> {
        let ids: Vec<ProcedureId> = (0..claims.len()).map(id).collect();
        let mut all = Vec::new();
        for ((ticket, standing, locks), id) in claims.iter().zip(&ids) {
            all.push(Claim { ticket: Revision(*ticket), id, standing: *standing, locks });
        }
        let granted: Vec<ProcedureId> = plan_grants(all).into_iter().cloned().collect();
        granted.iter().map(|id| ids.iter().position(|known| known == id).unwrap()).collect()
    }

    #[test]
    fn shared_locks_go_together_and_exclusive_ones_alone() {
        use Standing::{Holds, Over, Waits};
        let (x, s) = (|| Locks::none().exclusive("t"), || Locks::none().shared("t"));
        assert_eq!(grants(&[(1, Waits, s()), (2, Waits, s()), (3, Waits, x())]), [0, 1]);
        assert_eq!(grants(&[(1, Holds, s()), (2, Waits, s())]), [1]);
        assert_eq!(grants(&[(1, Holds, s()), (2, Waits, x())]), [] as [usize; 0]);
        assert_eq!(grants(&[(1, Holds, x()), (2, Waits, s())]), [] as [usize; 0]);
        assert_eq!(grants(&[(1, Over, x()), (2, Waits, x()), (3, Waits, x())]), [1]);
        assert_eq!(grants(&[(1, Holds, x()), (2, Waits, Locks::none())]), [1]);
    }

    #[test]
    fn nobody_overtakes_an_earlier_one_that_waits_for_the_same() {
        use Standing::{Holds, Waits};
        let claims = [
            (1, Holds, Locks::none().shared("a")),
            (2, Waits, Locks::none().exclusive("a").exclusive("b")),
            (3, Waits, Locks::none().shared("a")),
            (4, Waits, Locks::none().exclusive("b")),
            (5, Waits, Locks::none().exclusive("c")),
        ];
        assert_eq!(grants(&claims), [4]);
    }

    #[test]
    fn the_stronger_mode_wins_whatever_the_order() {
        assert_eq!(Locks::none().shared("t").exclusive("t"), Locks::none().exclusive("t").shared("t"));
    }

    fn any_locks() -> impl Strategy<Value = Locks> {
        prop::collection::btree_map("[a-d]", prop::bool::ANY.prop_map(|x| if x { LockMode::Exclusive } else { LockMode::Shared }), 0..3)
            .prop_map(Locks)
    }

    proptest! {
        /// Runs a queue to its end: never do two conflicting ones run together, and all get their turn.
        #[test]
        fn any_queue_comes_to_its_end_without_conflicts(queue in prop::collection::vec(any_locks(), 1..12), order in any::<u64>()) {
            let mut claims: Vec<(u64, Standing, Locks)> = queue.into_iter().zip(1..).map(|(locks, at)| (at, Standing::Waits, locks)).collect();
            let mut order = order;
            while claims.iter().any(|(_, standing, _)| *standing != Standing::Over) {
                for index in grants(&claims) {
                    claims[index].1 = Standing::Holds;
                }
                let holders: Vec<usize> = (0..claims.len()).filter(|index| claims[*index].1 == Standing::Holds).collect();
                prop_assert!(!holders.is_empty(), "nobody runs");
                for (at, one) in holders.iter().enumerate() {
                    for other in &holders[at + 1..] {
                        for (resource, mode) in claims[*one].2.iter() {
                            let theirs = claims[*other].2.0.get(resource).copied();
                            prop_assert!(theirs.is_none_or(|theirs| theirs == LockMode::Shared && mode == LockMode::Shared));
                        }
                    }
                }
                claims[holders[order as usize % holders.len()]].1 = Standing::Over;
                order = order.rotate_left(7);
            }
        }
    }
}
