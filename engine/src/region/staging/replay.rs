//! Where an entry of the log belongs. Pure.

use tessera_manifest::id::{Generation, Sequence};
use tessera_manifest::state::RegionState;
use tessera_manifest::wal::{WalId, WalPosition};

/// Where an entry's rows go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Readers see them.
    Visible,
    /// They are staged.
    Staged,
    /// They are in an SST, were truncated, or lost their region to a repartition before they were acknowledged.
    Passed,
    /// Nobody was told of them, and no file will have them: a write that was under way when its node died at the fence, or
    /// one of a generation that the region never had.
    Aside,
}

/// What a state says of the entries of one log.
///
/// Invariant: the generation in an entry's sequence decides to which rows it belongs. Entries of the base generation
/// behind the fence were never acknowledged, since the gate was closed before the fence was drawn.
#[derive(Debug)]
pub(crate) struct Sorter {
    generation: Generation,
    flushed: Sequence,
    staging: Option<Staged>,
}

#[derive(Debug)]
struct Staged {
    generation: Generation,
    takes_rows: bool,
    /// `None`: the log came after the fence.
    fence: Option<WalPosition>,
    flushed: WalPosition,
    sequence: Sequence,
}

impl Sorter {
    pub(crate) fn new(state: &RegionState, wal: WalId) -> Self {
        let staging = state.staging().map(|staging| Staged {
            generation: staging.stage.generation,
            takes_rows: staging.stage.target.is_some(),
            fence: staging.fence(wal),
            flushed: staging.flushed(wal),
            sequence: staging.flushed_sequence().unwrap_or(Sequence::ZERO),
        });
        let generation = state.meta().map_or(Generation::FIRST, |meta| meta.generation);
        Self { generation, flushed: state.flushed_sequence(), staging }
    }

    /// The place of the entry at `position` with rows from `first` to `newest`.
    pub(crate) fn place(&self, position: WalPosition, first: Sequence, newest: Sequence) -> Place {
        let generation = first.generation();
        if let Some(staged) = self.staging.as_ref().filter(|staged| staged.generation == generation) {
            return match staged {
                _ if position <= staged.flushed || newest <= staged.sequence => Place::Passed,
                Staged { takes_rows: false, .. } => Place::Aside,
                _ => Place::Staged,
            };
        }
        // An append that failed can leave an entry behind a position that was passed since; nobody was told of it.
        if newest <= self.flushed {
            return Place::Passed;
        }
        let behind_fence = self.staging.as_ref().is_some_and(|staged| staged.fence.is_none_or(|fence| position > fence));
        if generation > self.generation || behind_fence { Place::Aside } else { Place::Visible }
    }
}

#[cfg(test)]
mod tests {
    use tessera_manifest::id::Epoch;

    use super::*;

    fn generation(number: u32) -> Generation {
        Generation::new(number).unwrap()
    }

    fn sequence(of: u32, counter: u64) -> Sequence {
        Sequence::new(generation(of), counter).unwrap()
    }

    fn at(entry: u64) -> WalPosition {
        WalPosition { epoch: Epoch(1), entry }
    }

    fn place(sorter: &Sorter, entry: u64, of: u32, counter: u64) -> Place {
        sorter.place(at(entry), sequence(of, counter), sequence(of, counter))
    }

    fn staged(target: bool) -> Sorter {
        let staging =
            Staged { generation: generation(7), takes_rows: target, fence: Some(at(10)), flushed: at(12), sequence: sequence(7, 2) };
        Sorter { generation: generation(5), flushed: sequence(5, 3), staging: Some(staging) }
    }

    #[test]
    fn rows_go_where_their_generation_belongs() {
        let sorter = staged(true);
        assert_eq!(place(&sorter, 4, 5, 3), Place::Passed);
        assert_eq!(place(&sorter, 10, 5, 4), Place::Visible);
        assert_eq!(place(&sorter, 11, 5, 5), Place::Aside, "durable, not acknowledged at the fence");
        assert_eq!(place(&sorter, 12, 7, 2), Place::Passed);
        assert_eq!(place(&sorter, 13, 7, 2), Place::Passed, "behind a position that was passed since");
        assert_eq!(place(&sorter, 13, 7, 3), Place::Staged);
        assert_eq!(place(&sorter, 13, 6, 1), Place::Aside, "a generation that the region never had");
        assert_eq!(place(&sorter, 9, 4, 9), Place::Passed, "left by an abort before it, and flushed");
    }

    #[test]
    fn a_region_that_retires_takes_no_rows() {
        assert_eq!(place(&staged(false), 13, 7, 3), Place::Aside);
        assert_eq!(place(&staged(false), 9, 5, 4), Place::Visible);
    }

    #[test]
    fn of_a_log_that_came_after_the_fence_only_staged_rows_count() {
        let mut sorter = staged(true);
        let staging = sorter.staging.as_mut().unwrap();
        (staging.fence, staging.flushed) = (None, WalPosition::START);
        assert_eq!(place(&sorter, 1, 7, 3), Place::Staged);
        assert_eq!(place(&sorter, 2, 5, 9), Place::Aside);
    }

    #[test]
    fn after_a_commit_what_was_before_the_fence_is_passed() {
        let resolved = Sorter { generation: generation(7), flushed: sequence(7, 0), staging: None };
        assert_eq!(place(&resolved, 11, 5, 5), Place::Passed);
        assert_eq!(place(&resolved, 12, 7, 1), Place::Visible);
        assert_eq!(place(&resolved, 13, 8, 1), Place::Aside);
    }

    #[test]
    fn after_an_abort_rows_of_the_base_generation_stay_visible() {
        let resolved = Sorter { generation: generation(8), flushed: sequence(5, 3), staging: None };
        assert_eq!(place(&resolved, 10, 5, 4), Place::Visible);
        assert_eq!(place(&resolved, 11, 8, 1), Place::Visible);
    }
}
