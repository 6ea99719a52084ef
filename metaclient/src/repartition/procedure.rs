//! A repartition as a procedure: plan, allocate, the groups, finish.
//!
//! Invariants:
//! - A step does one thing of one group, so that each thing's intent is stored before it and its result after it.
//! - What a step publishes goes into the transaction that stores its result: exactly once, and only by the runner whose
//!   epoch is current.
//! - Between the first stage of a group and the transaction that admits writes again the step waits for the stages and
//!   for the decision, and for nothing else: the table is read, and what will be written is known, before it.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tessera_manifest::env::{self, Env};
use tessera_manifest::error::ErrorClass;
use tessera_manifest::id::{NodeId, RegionId, Slot, TxnId};

use super::allocate::{NearAllocator, NewRegion, ResourceAllocator};
use super::draft::{DraftError, draft};
use super::error::{PlanError, Refused};
use super::group::{Cause, Event, Group, GroupStep};
use super::ops::{Failure, Ops};
use super::outcome::Outcome;
use super::plan::{RepartitionPlan, still_holds};
use super::port::{Decided, PortError, RegionPort, Verdict};
use super::request::{Request, check_types};
use super::rightful::Rightful;
use super::state::{Data, Options, STALL_MAX, Stage, Turn};
use crate::catalog::{Catalog, Planned, Route, TableInfo, TableView, WriteSet};
use crate::limits::{PROCEDURE_SLACK_BYTES, REPARTITION_ATTEMPTS_MAX, REPARTITION_REPORT_INTERVAL, REPARTITION_STAGE_MAX};
use crate::procedure::{Commit, Load, Locks, Procedure, Retry, State, Status, StepContext, StepError};
use crate::values;

/// The kind under which it is registered.
pub const KIND: &str = "repartition";

const RETRY: Retry = Retry { attempts_max: 8, first: Duration::from_millis(20), longest: Duration::from_secs(10) };

/// What the steps work on.
#[derive(Debug, Clone)]
pub struct Tools {
    /// The regions and the decisions.
    pub port: Arc<dyn RegionPort>,
    /// Who provides for new regions.
    pub allocator: Arc<dyn ResourceAllocator>,
}

impl Tools {
    /// Regions through `port`, and nobody who provides for new ones.
    #[must_use]
    pub fn new(port: Arc<dyn RegionPort>) -> Self {
        Self { port, allocator: Arc::new(NearAllocator) }
    }

    /// What reads a stored repartition; register it under [`KIND`].
    #[must_use]
    pub fn loader(self) -> Box<Load> {
        Box::new(move |state| Ok(Box::new(Repartition { data: Data::from_state(state)?, tools: self.clone() })))
    }
}

/// A repartition of a table.
pub struct Repartition {
    data: Data,
    tools: Tools,
}

impl fmt::Debug for Repartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.data.fmt(f)
    }
}

impl Repartition {
    /// The repartition of a table as `request` says; to be submitted now.
    #[must_use]
    pub fn new(info: &TableInfo, request: Request, options: Options, env: &Env, tools: Tools) -> Self {
        let until = |timeout: Duration| env.unix_ms().saturating_add(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        let data = Data {
            table: info.id,
            database: info.database.clone(),
            name: info.name.clone(),
            types: request.types(&info.schema),
            request,
            options,
            deadline_unix_ms: options.timeout.map(until),
            stage: Stage::Plan,
            columns_before: Vec::new(),
            columns: Vec::new(),
            groups: Vec::new(),
            unchanged: Vec::new(),
        };
        Self { data, tools }
    }

    /// What is stored of it.
    #[must_use]
    pub fn data(&self) -> &Data {
        &self.data
    }

    fn ops<'a>(&'a self, context: &'a StepContext, group: &'a Group, info: &'a TableInfo) -> Ops<'a> {
        Ops { port: Rightful::new(&*self.tools.port, context), group, info, columns: &self.data.columns }
    }

    fn next(&self, planned: Planned) -> Status {
        let Planned { compares, ops } = planned;
        Status::Next(Commit { compares, ops, progress: Some(self.data.progress()) })
    }

    /// Makes the plan, and draws from the table's counters what it uses.
    async fn plan(&mut self, context: &StepContext) -> Result<Status, StepError> {
        if self.data.is_expired(context.env().unix_ms()) {
            return Err(StepError::fatal(expired().message));
        }
        let view = self.view(context).await?;
        // It may have waited for an alteration.
        check_types(&self.data.types, &view.info.schema).map_err(|source| StepError::fatal(Refused { source }))?;
        let drafted = draft(&view, &*self.tools.port, &self.data.request).await;
        let plan = drafted.map_err(|error| match error {
            DraftError::Plan { source } => StepError::fatal(Refused { source }),
            other => StepError::of_class(other.class(), other),
        })?;
        let mut info = plan.table_after(&view.info);
        if plan.groups.is_empty() {
            info.partition_columns.clone_from(&plan.columns);
        }
        let input = self.data.to_state().bytes.len();
        let txns: Vec<TxnId> = plan.groups.iter().map(|_| TxnId(context.env().ulid())).collect();
        self.data.stage = if plan.groups.is_empty() { Stage::Finish } else { Stage::Allocate };
        self.data.set_plan(plan.clone(), txns);
        // Each publication stores the procedure and the table with it, so their sizes count too.
        let limits = context.kv().limits();
        let (record, record_max) = (self.data.bytes_max(input), limits.value_bytes_max.saturating_sub(PROCEDURE_SLACK_BYTES));
        let besides = values::encode(&info).len() + record + PROCEDURE_SLACK_BYTES;
        let too_much = PlanError::TooMuchToKeep { groups: plan.groups.len(), bytes: record, bytes_max: record_max };
        let kept = if record > record_max { Err(too_much) } else { plan.check_size(&limits, besides) };
        kept.map_err(|source| StepError::fatal(Refused { source }))?;
        Ok(self.next(view.plan_table(&info)))
    }

    async fn view(&self, context: &StepContext) -> Result<TableView, StepError> {
        Ok(Catalog::on(Arc::clone(context.kv())).table_view(self.data.table).await?)
    }

    /// Has new regions provided for.
    async fn allocate(&mut self, context: &StepContext) -> Result<Status, StepError> {
        let new: Vec<NewRegion> = self.created(|_| true).iter().map(|(region, near)| NewRegion { region: *region, near: *near }).collect();
        let nodes: BTreeMap<RegionId, NodeId> = match new.is_empty() {
            true => BTreeMap::new(),
            false => self.tools.allocator.allocate(context.id(), &new).await.map_err(step_error)?,
        };
        for target in self.data.groups.iter_mut().flat_map(|group| &mut group.plan.targets) {
            if let Some(node) = nodes.get(&target.region) {
                target.node = *node;
            }
        }
        self.data.stage = Stage::Groups;
        Ok(self.next(Planned::default()))
    }

    /// The new regions of the groups that `which` holds for.
    fn created(&self, which: impl Fn(&Group) -> bool) -> Vec<(RegionId, NodeId)> {
        let groups = self.data.groups.iter().filter(|group| which(group));
        groups.flat_map(|group| group.plan.created().map(|target| (target.region, target.node))).collect()
    }

    async fn give_back(&self, context: &StepContext) -> Result<(), StepError> {
        let regions: Vec<RegionId> = self.created(|group| !group.is_committed()).into_iter().map(|(region, _)| region).collect();
        if regions.is_empty() {
            return Ok(());
        }
        self.tools.allocator.release(context.id(), &regions).await.map_err(step_error)
    }

    /// Does what is next of the groups.
    async fn groups(&mut self, context: &StepContext) -> Result<Status, StepError> {
        match self.data.turn(context.env().unix_ms()) {
            Turn::Over => {
                self.data.stage = Stage::Finish;
                Ok(self.next(Planned::default()))
            }
            Turn::Wait(wait) => Ok(Status::Later(wait)),
            Turn::Group(at) => self.group(context, at).await,
            Turn::Blocked(groups) => self.blocked(context, &groups).await,
        }
    }

    /// Tries each of the groups that need somebody to act, so that one whose cause is gone does not wait for the others.
    async fn blocked(&mut self, context: &StepContext, groups: &[usize]) -> Result<Status, StepError> {
        let mut failures = Vec::new();
        for at in groups {
            let view = self.view(context).await?;
            self.refresh_nodes(*at, &view);
            match self.act(context, *at, &view).await? {
                Ok((event, planned)) => return self.advance(*at, event, planned),
                Err(failure) if failure.retryable => return self.stall(context, *at, failure),
                Err(failure) => failures.push(failure),
            }
        }
        let code = failures.iter().find_map(|failure| failure.cause.code);
        let causes: Vec<String> = failures.into_iter().map(|failure| failure.cause.message).collect();
        Err(coded(&causes.join("; "), code))
    }

    async fn group(&mut self, context: &StepContext, at: usize) -> Result<Status, StepError> {
        if self.data.groups[at].step == GroupStep::Waiting {
            // Only now, so that a group which never got its turn leaves nothing to undo.
            let now = context.env().unix_ms();
            let event = if self.data.is_expired(now) { Event::Failed(expired()) } else { Event::Begun };
            return self.advance(at, event, Planned::default());
        }
        let view = self.view(context).await?;
        self.refresh_nodes(at, &view);
        let acted = self.act(context, at, &view).await?;
        match acted {
            Ok((event, planned)) => self.advance(at, event, planned),
            Err(failure) => self.failed(context, at, failure),
        }
    }

    /// Regions may have moved since the plan was made.
    fn refresh_nodes(&mut self, at: usize, view: &TableView) {
        let plan = &mut self.data.groups[at].plan;
        let sources = plan.sources.iter_mut().map(|source| (source.region, &mut source.node));
        let targets = plan.targets.iter_mut().map(|target| (target.region, &mut target.node));
        for (region, node) in sources.chain(targets) {
            if let Some(now) = view.node(region) {
                *node = now;
            }
        }
    }

    fn advance(&mut self, at: usize, event: Event, planned: Planned) -> Result<Status, StepError> {
        let event = event.bounded(self.data.text_bytes());
        self.data.groups[at] = self.data.groups[at].after(event).map_err(StepError::fatal)?;
        Ok(self.next(planned))
    }

    /// Does the step of a group; the event, and what is published with it.
    async fn act(&self, context: &StepContext, at: usize, view: &TableView) -> Result<Result<(Event, Planned), Failure>, StepError> {
        let group = &self.data.groups[at];
        let ops = self.ops(context, group, &view.info);
        let alone = |event: Event| (event, Planned::default());
        let decided = group.decision(self.data.table);
        Ok(match (group.step, &decided) {
            (GroupStep::Create | GroupStep::Prepare, _) if self.data.is_expired(context.env().unix_ms()) => {
                Ok(alone(Event::Failed(expired())))
            }
            (GroupStep::Create, _) => ops.create().await.map(alone),
            (GroupStep::Prepare, _) => match self.watched(context, true, ops.prepare()).await? {
                Some(prepared) => prepared.map(alone),
                None => Ok(alone(Event::Failed(expired()))),
            },
            (GroupStep::Fence, _) => return self.fence(context, group, view).await,
            (GroupStep::Drain, _) => watched_to_end(self.watched(context, false, ops.drain()).await?).map(alone),
            (GroupStep::Remap, _) => self.remap(context, group, view).await?.map(alone),
            (GroupStep::Publish, _) => self.publish(context, group, view),
            (GroupStep::Resolve, Some(decided)) => ops.resolve_commit(decided).await.map(alone),
            (GroupStep::ResolveAbort, Some(decided)) => ops.resolve_abort(decided).await.map(alone),
            (GroupStep::After, _) if self.data.options.localize => Ok(alone(ops.localize().await)),
            (GroupStep::After, _) => Ok(alone(Event::Finished { notes: Vec::new() })),
            (GroupStep::Undo, _) => ops.undo().await.map(alone),
            (GroupStep::Resolve | GroupStep::ResolveAbort | GroupStep::Waiting | GroupStep::Done | GroupStep::Failed, _) => {
                return Err(StepError::fatal(format!("group {at} is at step {}, which does nothing", group.step.as_str())));
            }
        })
    }

    /// Fences the sources, decides, and publishes what the decision says: the write set, or the generation of the abort.
    async fn fence(&self, context: &StepContext, group: &Group, view: &TableView) -> Result<Result<(Event, Planned), Failure>, StepError> {
        let ops = self.ops(context, group, &view.info);
        let sources: Vec<RegionId> = group.plan.sources.iter().map(|source| source.region).collect();
        let retired: Vec<RegionId> = group.plan.retired().collect();
        let targets: Vec<Route> = group.plan.targets.iter().map(|target| route(target, group)).collect();
        let admit = view.plan_write_set(&WriteSet { targets: &targets, retired: &retired, columns: &self.data.columns });
        let turn_back = view.plan_abort(group.abort, &sources);
        let known = match self.tools.port.decided(self.data.table, group.txn).await {
            Ok(known) => known,
            Err(error) if error.retryable => return Err(step_error(error)),
            Err(error) => return Ok(Err(Failure::of(None, error))),
        };
        let (mut cause, mut fenced_unix_ms) = (None, None);
        let decided: Decided = match known {
            Some(decided) => {
                if decided.verdict != Verdict::Abort {
                    self.open_new(&ops).await;
                }
                decided
            }
            None => {
                let now = context.env().unix_ms();
                fenced_unix_ms = Some(now);
                let obstacle = self.obstacle(group, view, now);
                let staged = match obstacle {
                    Some(obstacle) => Err(obstacle),
                    None => stage_in_time(&ops).await,
                };
                let verdict = match staged {
                    Ok(sources) => group.commit_of(sources),
                    Err(why) => {
                        // It may be that they are another process's now: who was overtaken proposes nothing.
                        context.check_fence().await?;
                        cause = Some(why);
                        Verdict::Abort
                    }
                };
                ops.decide(verdict).await.map_err(|failure| failed_step(&failure))?
            }
        };
        let commit = decided.verdict != Verdict::Abort;
        tracing::info!(txn = %group.txn, table = %self.data.table, commit, "a repartition is decided");
        let planned = if commit { admit } else { turn_back };
        let decided_unix_ms = context.env().unix_ms();
        Ok(Ok((Event::Decided { decided, cause, fenced_unix_ms, decided_unix_ms }, planned)))
    }

    /// Opens the new regions of a group that is committed and may not be admitted yet. One that cannot be opened holds up
    /// its own rows only, until it gets its references.
    async fn open_new(&self, ops: &Ops<'_>) {
        let opened = tokio::select! {
            biased;
            opened = ops.open_new() => opened.map_err(|failure| failure.cause.message),
            () = env::sleep(REPARTITION_STAGE_MAX) => Err("it takes too long".to_owned()),
        };
        if let Err(cause) = opened {
            tracing::warn!(txn = %ops.group.txn, cause, "a new region is not open");
        }
    }

    /// What forbids to fence the group.
    fn obstacle(&self, group: &Group, view: &TableView, now_unix_ms: u64) -> Option<Cause> {
        if self.data.is_expired(now_unix_ms) {
            return Some(expired());
        }
        let unchanged = still_holds(&group.plan, &view.write_routes());
        (!unchanged).then(|| Cause::new("its regions were changed since the plan was made"))
    }

    /// Gives the targets their references. Whoever meets a staged region may find that all of them have theirs, and then
    /// publishes the read set and resolves regions in place of a coordinator that does not come. The sources are not as
    /// they were drained then, and there is nothing to remap any more.
    async fn remap(&self, context: &StepContext, group: &Group, view: &TableView) -> Result<Result<Event, Failure>, StepError> {
        let sources: Vec<RegionId> = group.plan.sources.iter().map(|source| source.region).collect();
        let published = Event::Remapped { references: group.references };
        if view.is_published(group.commit, &sources) {
            return Ok(Ok(published));
        }
        let ops = self.ops(context, group, &view.info);
        match watched_to_end(self.watched(context, false, ops.remap()).await?) {
            Err(_) if self.view(context).await?.is_published(group.commit, &sources) => Ok(Ok(published)),
            other => Ok(other),
        }
    }

    /// Makes the new rules those of readers.
    fn publish(&self, context: &StepContext, group: &Group, view: &TableView) -> Result<(Event, Planned), Failure> {
        let sources: Vec<RegionId> = group.plan.sources.iter().map(|source| source.region).collect();
        let event = Event::Published { at_unix_ms: context.env().unix_ms() };
        match view.plan_read_set(group.commit, &sources, Some(&self.data.columns)) {
            Some(planned) => Ok((event, planned)),
            None => {
                let message = format!("the write set of table {} has no region of generation {}", self.data.table, group.commit);
                Err(Failure { cause: Cause::new(message), retryable: false })
            }
        }
    }

    /// Does `work`, and tells meanwhile how far the procedure is, which also tells whether it was cancelled. `None` when
    /// time was up first.
    async fn watched<T>(&self, context: &StepContext, ends: bool, work: impl Future<Output = T>) -> Result<Option<T>, StepError> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                output = &mut work => return Ok(Some(output)),
                () = env::sleep(REPARTITION_REPORT_INTERVAL) => {
                    if ends && self.data.is_expired(context.env().unix_ms()) {
                        return Ok(None);
                    }
                    context.report(self.data.progress()).await?;
                }
            }
        }
    }

    /// What becomes of a group whose step failed: before the fence it gives up after a few attempts; after it, the others
    /// go first.
    fn failed(&mut self, context: &StepContext, at: usize, failure: Failure) -> Result<Status, StepError> {
        let group = &self.data.groups[at];
        let tries = group.tries.saturating_add(1);
        if group.is_before_fence() && (!failure.retryable || tries >= REPARTITION_ATTEMPTS_MAX) {
            return self.advance(at, Event::Failed(failure.cause), Planned::default());
        }
        if !group.is_before_fence() && !self.data.others_can_go_on(at) && (failure.retryable || self.data.is_alone(at)) {
            return Err(failed_step(&failure));
        }
        self.stall(context, at, failure)
    }

    /// Stores why a group waits, so that the others go first.
    fn stall(&mut self, context: &StepContext, at: usize, failure: Failure) -> Result<Status, StepError> {
        let tries = self.data.groups[at].tries.saturating_add(1);
        let wait = Retry { longest: STALL_MAX / 2, ..RETRY }.wait(tries, u64::from(tries));
        let not_before = context.env().unix_ms().saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        let stalled = Event::Stalled { cause: failure.cause, blocked: !failure.retryable, not_before_unix_ms: Some(not_before) };
        self.advance(at, stalled, Planned::default())
    }

    /// Takes back what failed groups were given, and tells the result.
    async fn finish(&self, context: &StepContext) -> Result<Status, StepError> {
        self.give_back(context).await?;
        let outcome = Outcome::of(&self.data);
        let nothing = !self.data.groups.is_empty() && !self.data.groups.iter().any(Group::is_committed);
        match outcome.failure() {
            // Nothing was done: it failed as a whole, and can be tried again from the beginning.
            Some(failure) if nothing && !self.data.past_no_return() => Err(coded(&failure, self.first_code())),
            _ => Ok(Status::Done { output: Some(outcome.to_json()), commit: Commit::default() }),
        }
    }

    fn first_code(&self) -> Option<u32> {
        self.data.groups.iter().find_map(|group| group.cause.as_ref()?.code)
    }
}

/// The route of a target once its group is committed.
fn route(target: &super::plan::PlannedTarget, group: &Group) -> Route {
    Route { region: target.region, node: target.node, generation: group.commit, rule: target.rule.clone() }
}

fn expired() -> Cause {
    Cause::new("the time that it was given is up")
}

/// Stages the sources, unless that takes too long: a clock only proposes to abort. The new regions are opened before, since
/// they take rows right after the decision: after a restart nobody else has, as no route leads to them yet.
async fn stage_in_time(ops: &Ops<'_>) -> Result<Vec<(RegionId, Slot)>, Cause> {
    let stage = async {
        ops.open_new().await?;
        ops.stage().await
    };
    tokio::select! {
        biased;
        staged = stage => staged.map_err(|failure| failure.cause),
        () = env::sleep(REPARTITION_STAGE_MAX) => {
            Err(Cause::new(format!("its sources were not fenced within {} s", REPARTITION_STAGE_MAX.as_secs())))
        }
    }
}

fn watched_to_end<T>(output: Option<Result<T, Failure>>) -> Result<T, Failure> {
    output.unwrap_or_else(|| Err(Failure { cause: expired(), retryable: true }))
}

fn step_error(error: PortError) -> StepError {
    let class = if error.retryable { ErrorClass::Retry } else { ErrorClass::Invalid };
    match error.code {
        Some(code) => StepError::of_class(class, format!("{error} (error {code})")),
        None => StepError::of_class(class, error),
    }
}

fn failed_step(failure: &Failure) -> StepError {
    let Cause { message, code, region: _ } = &failure.cause;
    step_error(PortError { retryable: failure.retryable, not_found: false, overtaken: false, message: message.clone(), code: *code })
}

fn coded(message: &str, code: Option<u32>) -> StepError {
    step_error(PortError { retryable: false, not_found: false, overtaken: false, message: message.to_owned(), code })
}

#[async_trait]
impl Procedure for Repartition {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn state(&self) -> State {
        self.data.to_state()
    }

    fn locks(&self) -> Locks {
        let Data { table, database, .. } = &self.data;
        Locks::none().exclusive(format!("table/{table}")).shared(format!("database/{database}"))
    }

    fn past_no_return(&self) -> bool {
        self.data.past_no_return()
    }

    async fn step(&mut self, context: &StepContext) -> Result<Status, StepError> {
        match self.data.stage {
            Stage::Plan => self.plan(context).await,
            Stage::Allocate => self.allocate(context).await,
            Stage::Groups => self.groups(context).await,
            Stage::Finish => self.finish(context).await,
        }
    }

    async fn rollback(&mut self, context: &StepContext) -> Result<Status, StepError> {
        let Some(at) = self.data.groups.iter().position(|group| !group.is_over()) else {
            self.give_back(context).await?;
            return Ok(Status::done());
        };
        let group = &self.data.groups[at];
        let cancelled = || Event::Failed(Cause::new("it was cancelled"));
        if group.is_before_fence() {
            return self.advance(at, cancelled(), Planned::default());
        }
        let view = self.view(context).await?;
        self.refresh_nodes(at, &view);
        let undone = self.ops(context, &self.data.groups[at], &view.info).undo().await;
        self.advance(at, undone.map_err(|failure| failed_step(&failure))?, Planned::default())
    }

    fn retry(&self) -> Retry {
        RETRY
    }
}

/// Whether a plan needs new regions; for those who show it.
impl RepartitionPlan {
    /// The regions that have to be created, in order.
    #[must_use]
    pub fn new_regions(&self) -> Vec<RegionId> {
        self.groups.iter().flat_map(|group| group.created().map(|target| target.region)).collect()
    }
}
