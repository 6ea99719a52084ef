//! The guards: the rules of the protocols whose loss is known to break something, by name.

use std::fmt::{self, Display};
use std::str::FromStr;

macro_rules! guards {
    ($($variant:ident $name:literal $rule:literal)*) => {
        /// A rule of the design.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Guard {
            $(#[doc = $rule] $variant,)*
        }

        impl Guard {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// What it says, and where the design says it.
            #[must_use]
            pub const fn rule(self) -> &'static str {
                match self {
                    $(Self::$variant => $rule,)*
                }
            }
        }
    };
}

guards! {
    GateBeforeStage "gate-before-stage" "8.3: the write gate is closed before Stage, and a staged region takes no row of the base generation"
    AppendsSettleBeforeStage "appends-settle-before-stage" "8.3: submitted WAL appends settle before Stage"
    FlushPositionInserted "flush-position-inserted" "5: a flush position is the last entry with all earlier ones inserted, never the WAL's tail"
    FlushAdvances "flush-advances" "4: an Edit whose flush position does not advance is refused"
    WalBehindBothPositions "wal-behind-both-positions" "8.6: the WAL is cut behind the visible and the staged position only"
    ReopenSettlesAppends "reopen-settles-appends" "3: re-open on a living node first settles or fails the appends of its old incarnation"
    TruncateWaitsForPermits "truncate-waits-for-permits" "5: whoever closes the gate waits for the permits; truncate does"

    OpenNamesEveryLog "open-names-every-log" "5: Open names every WAL that still holds unflushed entries"
    LogSealedBeforeReplay "log-sealed-before-replay" "5: seal the manifests, seal the log, replay"
    FinalLogSealKept "final-log-seal-kept" "5: a log's final seal is never deleted"
    CleanSealAfterFlush "clean-seal-after-flush" "5: a writer ends its epoch cleanly only when everything is flushed (in the code)"

    ListAfterSeal "list-after-seal" "3: after sealing, LIST once more; anything beyond makes the seal void"
    ListIsConsistent "list-is-consistent" "3: that LIST is strongly consistent; the probe tests it"
    SealsKept "seals-kept" "3: seals are never deleted while the table lives"
    OpensKept "opens-kept" "3: Open slots are never deleted while the table lives"
    VoidSealStays "void-seal-stays" "3: a void seal is left where it is"
    GapFilledWithSeals "gap-filled-with-seals" "3: what fills the gap below a seal ahead are seals too"
    SealsBeyondAreExempt "seals-beyond-are-exempt" "3: a seal of the same epoch beyond a seal does not make it void"
    GapBelowSealIsNoError "gap-below-seal-is-no-error" "3: a gap below a seal is not an error: the opener seals the lowest free slot"

    FloorLoggedFirst "floor-logged-first" "4: Floor is logged before anything older is deleted"
    TwoCheckpointsKept "two-checkpoints-kept" "4: retention keeps two logged checkpoints and deletes only behind the older one"
    CheckpointsLogged "checkpoints-logged" "4: retention counts on logged checkpoints only"
    RetentionReadsCheckpoints "retention-reads-checkpoints" "4: retention finds the checkpoints that it relies on whole first (in the code)"
    PinKeepsCheckpoint "pin-keeps-checkpoint" "4: the checkpoint of a pinned version stays"
    PinNotBelowFloor "pin-not-below-floor" "4: a Pin below the Floor is refused"
    PinsCount "pins-count" "9: all pins count for Doom and mark"
    RetainedVersionsCount "retained-versions-count" "9: all retained versions count for Doom and mark"
    ScansHoldFloors "scans-hold-floors" "4: a running scan holds back the Floor of every region it pinned"
    RestoreOnlyRetained "restore-only-retained" "4: a rollback restores only files that a reader may still ask for (in the code)"

    StageBeforeDecision "stage-before-decision" "8.4: commit is decided only once every region is staged"
    StageNamesBase "stage-names-base" "8.3: Stage names the base generation, and is refused in another"
    DecisionCreatedOnce "decision-created-once" "8.4: whoever creates the decision object first decides"
    AbortPublishes "abort-publishes" "8.4: an abort publishes its generation in both sets"
    AbortResolvesUnstaged "abort-resolves-unstaged" "8.4: an abort is resolved also by a source that had not staged yet"
    AbortHasOwnGeneration "abort-has-own-generation" "8.4: an abort takes the sources to a generation of its own"
    AbortRetiresNewRegions "abort-retires-new-regions" "8.4: after an abort every new region is created as Retired if absent"
    RouteRevisionCompared "route-revision-compared" "8.5: a publish compares the route revision"
    RunnerEpochCompared "runner-epoch-compared" "8.5: a publish compares the runner epoch"
    PublishAfterEveryRemap "publish-after-every-remap" "8.8: the read set is published when every target has its RemapStaged"
    ResolveAfterPublish "resolve-after-publish" "8.8: a commit is resolved once the read set is c"
    PinChecksGeneration "pin-checks-generation" "8: a scan pins a region in the generation of its read set only"
    ReadSetReadAgain "read-set-read-again" "8: after the last pin the read set is read again"
    DecisionPerGroup "decision-per-group" "7: each group is planned, run, and succeeds or fails alone"

    ScopesOfReferences "scopes-of-references" "4: a reference stands for its scope of the file only"
    ScopeAndRuleAtFence "scope-and-rule-at-fence" "8.7: the scope in a target is the sources' scope AND their rule at the fence"
    EditNamesGeneration "edit-names-generation" "4: an Edit that read another generation is refused"
    FrozenWhileStaged "frozen-while-staged" "8.3: a staged region takes only Edits that add, up to the fence"
    RemapMayListAgain "remap-may-list-again" "4: RemapStaged may list a file again that was listed before"
    SequenceHasGeneration "sequence-has-generation" "5: rows of a later generation win over earlier ones"
    TombstonesKept "tombstones-kept" "5: tombstones are dropped only where no other reference can hold the key"
    FlushRedoneAfterResolve "flush-redone-after-resolve" "5: a flush in flight across a Resolve is redone"

    TableLock "table-lock" "8.1: statements on one table exclude one another by its lock"
    StageNamesSchema "stage-names-schema" "8.3: Stage names the schema version, and is refused at another"
    NoChangeWhileStaged "no-change-while-staged" "8.3: a staged region takes no Change"
    ScopeColumnKept "scope-column-kept" "4: a column in a live scope (or rule) cannot be dropped"
    AlterGoesForward "alter-goes-forward" "10: an ALTER that has sent a Change only goes forward (in the code)"
    ChangeGoesForward "change-goes-forward" "4: a Change to an older schema is refused (in the code)"
    ChangeNamesGeneration "change-names-generation" "4: a Change of an older generation is refused (in the code)"

    RemapOfCurrentEpoch "remap-of-current-epoch" "4: a RemapStaged whose segments are not of the target's current epoch is refused"
    SweepOfEarlierEpochs "sweep-of-earlier-epochs" "4: sweeps take only segments of earlier epochs"

    SecondPass "second-pass" "9: every tail is read again from the store"
    TailsReadTwice "tails-read-twice" "9: a tail with Seal, Stage or Resolve makes the mark void"
    NothingStagedInMark "nothing-staged-in-mark" "9: the mark counts only if nothing is staged"
    RegionSetReadTwice "region-set-read-twice" "9: the mark counts only if the region set is the same"
    RetiredStayInRegionSet "retired-stay-in-region-set" "9: retired regions stay in the set until their Floor has passed everything"
    DoomChecked "doom-checked" "9: apply has the last word on Doom"
    SweepSparesRemoved "sweep-spares-removed" "9: a sweep takes what the manifest does not list; removed files are listed"
    AddedFilesOfCurrentEpoch "added-files-of-current-epoch" "4: an Edit adds files of the current epoch only"

    VerdictCreatedOnce "verdict-created-once" "9: purge or undrop is the marker's verdict, created once"
    PurgeAfterVerdict "purge-after-verdict" "9: nothing is purged before the verdict"
    MarkerNamedInPlan "marker-named-in-plan" "10: persist intent, act: the marker's name is in the plan of the drop"
    DropHeedsVerdict "drop-heeds-verdict" "10: a drop that is resumed leaves an undropped table alone"
    DropMarkersKept "drop-markers-kept" "2: a drop marker is never deleted"
    ReconcileReadsMarkers "reconcile-reads-markers" "11: drop markers keep an old backup from bringing dropped tables back"
    DropAfterResolve "drop-after-resolve" "9: a region that is staged is resolved before it is dropped (in the code)"

    BlockedGivesWay "blocked-gives-way" "9: a drop takes the place of a repartition that is blocked (in the code)"
    OnlyBlockedGivesWay "only-blocked-gives-way" "9: a repartition that goes on by itself is waited for (in the code)"
    LockHandedOver "lock-handed-over" "10: one transaction ends the blocked procedure and begins the one in its place (in the code)"
    TakeOverAfterLastStep "take-over-after-last-step" "10: a lock changes hands when no step of its holder is under way or repeated (in the code)"
    SupersededIsOver "superseded-is-over" "10: a procedure whose place was taken cannot be retried (in the code)"
    UndropGoesOn "undrop-goes-on" "9: an undrop goes on with a repartition that the drop left (not in the code, which has no undrop yet)"
}

impl Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no guard has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownGuard(pub String);

impl Display for UnknownGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no guard '{}': --list shows them", self.0)
    }
}

impl std::error::Error for UnknownGuard {}

impl FromStr for Guard {
    type Err = UnknownGuard;

    fn from_str(text: &str) -> Result<Self, UnknownGuard> {
        Self::ALL.iter().copied().find(|guard| guard.name() == text).ok_or_else(|| UnknownGuard(text.to_owned()))
    }
}

/// Which guards hold: all, but for those that were taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Guards {
    without: u128,
}

const _: () = assert!(Guard::ALL.len() <= 128, "a bit each");

impl Guards {
    /// All but these.
    #[must_use]
    pub fn without(guards: &[Guard]) -> Self {
        Self { without: guards.iter().fold(0, |without, guard| without | 1 << *guard as u32) }
    }

    /// Whether `guard` is kept.
    #[must_use]
    pub const fn holds(self, guard: Guard) -> bool {
        self.without & (1 << guard as u32) == 0
    }
}
