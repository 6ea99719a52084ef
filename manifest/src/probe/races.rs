//! Races of exclusive creates.

use bytes::Bytes;
use futures::future::join_all;

use super::judge::{Answer, Found, Seen, Verdict, judge};
use super::objects::Objects;
use super::{Answers, Capability, ProbeError, Settings};

/// How often a race is run, if it shows nothing.
pub(super) const TRIES_MAX: u64 = 2;

/// What all races showed of a store that passed.
#[derive(Debug, Default)]
pub(super) struct Summary {
    /// Races with one winner.
    pub(super) exclusive: u32,
    /// Races that showed nothing.
    pub(super) unclear: u32,
    /// The answers of the writers.
    pub(super) answers: Answers,
    /// Reads of what was known to be created.
    pub(super) reads: u32,
}

/// What was seen of a store that broke a promise.
#[derive(Debug, Default)]
struct Broken {
    exclusive: u32,
    unreadable: u32,
    winners_most: usize,
    replaced: u32,
    example: String,
}

/// Runs all races.
///
/// # Errors
/// A refusal, if one of them showed a broken promise; failures of the store.
pub(super) async fn run(objects: &Objects, settings: Settings) -> Result<Summary, ProbeError> {
    let (mut summary, mut broken) = (Summary::default(), Broken::default());
    let mut last_unclear = None;
    let mut number = 0;
    for _ in 0..settings.races {
        let mut verdict = Verdict::Unclear;
        for _ in 0..TRIES_MAX {
            let race = Race { objects, name: objects.name("race", number), writers: settings.writers };
            number += 1;
            let (seen, unclear) = race.run().await?;
            last_unclear = unclear.or(last_unclear);
            count(&mut summary.answers, &seen);
            verdict = judge(&seen);
            broken.add(&verdict, &race.name);
            if verdict != Verdict::Unclear {
                break;
            }
        }
        match verdict {
            Verdict::Exclusive => summary.exclusive += 1,
            Verdict::Unclear => summary.unclear += 1,
            _ => {}
        }
        summary.reads += 2;
    }
    if let Some(refusal) = broken.refusal(objects, &summary, settings) {
        return Err(refusal);
    }
    if summary.exclusive <= summary.unclear {
        let (unclear, source) = (summary.unclear, last_unclear.map(Box::new));
        return Err(ProbeError::Unclear { store: objects.store_name(), unclear, races: settings.races, source });
    }
    Ok(summary)
}

fn count(answers: &mut Answers, seen: &Seen) {
    for answer in &seen.answers {
        match answer {
            Answer::Created => answers.created += 1,
            Answer::Exists => answers.exists += 1,
            Answer::Unclear => answers.unclear += 1,
        }
    }
}

impl Broken {
    fn add(&mut self, verdict: &Verdict, name: &str) {
        match verdict {
            Verdict::Exclusive | Verdict::Unclear => return,
            Verdict::Winners(winners) => {
                self.exclusive += 1;
                self.winners_most = self.winners_most.max(*winners);
            }
            Verdict::WinnerReplaced | Verdict::Changed => {
                self.exclusive += 1;
                self.replaced += 1;
            }
            Verdict::Unreadable => self.unreadable += 1,
        }
        name.clone_into(&mut self.example);
    }

    fn refusal(&self, objects: &Objects, summary: &Summary, settings: Settings) -> Option<ProbeError> {
        let writers = settings.writers;
        let (capability, broken, mut seen) = match (self.exclusive, self.unreadable) {
            (0, 0) => return None,
            (0, unreadable) => (Capability::ReadAfterWrite, unreadable, "an object that was created was not found".to_owned()),
            (exclusive, _) if self.winners_most > 1 => {
                let (most, all) = (self.winners_most, writers + 1);
                let seen = format!("up to {most} of {all} creates of one object succeeded, {writers} of them sent at once");
                (Capability::ExclusiveCreate, exclusive, seen)
            }
            (exclusive, _) => {
                (Capability::ExclusiveCreate, exclusive, format!("{} times an object was replaced after its creation", self.replaced))
            }
        };
        seen.push_str(&format!(", the last time in race '{}'", self.example));
        let tests = settings.races - summary.unclear;
        Some(ProbeError::Refused { store: objects.store_name(), capability, broken, tests, seen })
    }
}

/// One race.
struct Race<'a> {
    objects: &'a Objects,
    name: String,
    writers: u32,
}

impl Race<'_> {
    /// What was seen, and the last error that was neither success nor "exists".
    async fn run(&self) -> Result<(Seen, Option<object_store::Error>), ProbeError> {
        // A reader that finds nothing first must not be told the same afterwards from a cache.
        if self.objects.read(&self.name).await?.is_some() {
            return Err(self.refused(Capability::ReadAfterDelete, "a name that was never used is found"));
        }
        let created = join_all((0..self.writers).map(|writer| self.objects.create(&self.name, self.bytes(writer)))).await;
        let mut unclear = None;
        let mut answers = Vec::with_capacity(created.len());
        for answer in created {
            answers.push(self.classify(answer, &mut unclear)?);
        }
        let read = self.read().await?;
        let late = self.classify(self.objects.create(&self.name, self.bytes(self.writers)).await, &mut unclear)?;
        let again = self.read().await?;
        let silent = answers.iter().chain([&late]).all(|answer| *answer == Answer::Unclear);
        match unclear.take_if(|_| silent && again == Found::Nothing) {
            Some(source) => Err(self.objects.failed("create", &self.objects.path(&self.name), source)),
            None => Ok((Seen { answers, read, late, again }, unclear)),
        }
    }

    fn classify(&self, created: Result<(), object_store::Error>, unclear: &mut Option<object_store::Error>) -> Result<Answer, ProbeError> {
        use object_store::Error;
        match created {
            Ok(()) => Ok(Answer::Created),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Answer::Exists),
            Err(error @ (Error::NotImplemented { .. } | Error::NotSupported { .. })) => {
                Err(self.refused(Capability::ExclusiveCreate, &error.to_string()))
            }
            Err(error @ (Error::PermissionDenied { .. } | Error::Unauthenticated { .. } | Error::NotFound { .. })) => {
                Err(self.objects.failed("create", &self.objects.path(&self.name), error))
            }
            Err(error) => {
                *unclear = Some(error);
                Ok(Answer::Unclear)
            }
        }
    }

    async fn read(&self) -> Result<Found, ProbeError> {
        let Some(bytes) = self.objects.read(&self.name).await? else { return Ok(Found::Nothing) };
        let writer = (0..=self.writers).position(|writer| self.bytes(writer) == bytes);
        Ok(writer.map_or(Found::Other, Found::Writer))
    }

    /// The bytes of a writer: of a length of their own, so that no mixture passes for one of them.
    fn bytes(&self, writer: u32) -> Bytes {
        let line = format!("{} writer {writer:03}\n", self.name);
        Bytes::from(line.repeat(1 + writer as usize))
    }

    fn refused(&self, capability: Capability, seen: &str) -> ProbeError {
        ProbeError::Refused { store: self.objects.store_name(), capability, broken: 1, tests: 1, seen: seen.to_owned() }
    }
}
