//! LISTs and reads after writes and deletes.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use super::objects::{Objects, Shown};
use super::{Capability, ProbeError, Settings};
use crate::limits;

/// The kind of these objects in their names.
const KIND: &str = "list";

/// What was tested of a store that passed.
#[derive(Debug)]
pub(super) struct Summary {
    /// LISTs that had to show something new.
    pub(super) after_write: u32,
    /// LISTs that had to hide something old.
    pub(super) after_delete: u32,
    /// Reads of what had just been written.
    pub(super) reads: u32,
    /// Whether every LIST was in order.
    pub(super) ordered: bool,
    /// Whether LISTs after a name left out what is up to it.
    pub(super) offset_exact: bool,
}

/// Tests and failures of one promise.
#[derive(Debug, Default)]
struct Tally {
    tests: u32,
    broken: u32,
    example: String,
}

impl Tally {
    fn test(&mut self, kept: bool, example: impl FnOnce() -> String) {
        self.tests += 1;
        if !kept {
            self.broken += 1;
            self.example = example();
        }
    }

    fn check(&self, objects: &Objects, capability: Capability) -> Result<(), ProbeError> {
        if self.broken == 0 {
            return Ok(());
        }
        let Self { tests, broken, example } = self;
        Err(ProbeError::Refused { store: objects.store_name(), capability, broken: *broken, tests: *tests, seen: example.clone() })
    }
}

/// Writes, lists and deletes.
///
/// # Errors
/// A refusal; failures of the store.
pub(super) async fn run(objects: &Objects, settings: Settings) -> Result<Summary, ProbeError> {
    let mut test =
        Test { objects, writes: Tally::default(), reads: Tally::default(), deletes: Tally::default(), ordered: true, offset_exact: true };
    for number in 0..settings.steps {
        test.write(number).await?;
    }
    test.write_many(settings.steps, settings.listed).await?;
    let after_write = test.writes.tests;
    for number in 0..settings.steps {
        test.delete(number, settings.listed).await?;
    }
    test.reads.check(objects, Capability::ReadAfterWrite)?;
    test.writes.check(objects, Capability::ListAfterWrite)?;
    test.deletes.check(objects, Capability::ReadAfterDelete)?;
    Ok(Summary {
        after_write,
        after_delete: settings.steps,
        reads: test.reads.tests,
        ordered: test.ordered,
        offset_exact: test.offset_exact,
    })
}

/// Deletes all of the probe's objects and looks whether they are gone; the number of those that are not.
///
/// # Errors
/// A refusal, if a LIST shows what was deleted; failures of the store.
pub(super) async fn clean(objects: &Objects) -> Result<u32, ProbeError> {
    let failed = objects.delete_all().await;
    let left = objects.list(None).await?.names;
    let mut deletes = Tally::default();
    // A create without a clear answer may land after its object was deleted, but none of these was one.
    let shown = left.iter().find(|name| name.starts_with(&objects.before(KIND)));
    deletes.test(failed > 0 || shown.is_none(), || format!("a LIST shows the deleted object '{}'", shown.map_or("", String::as_str)));
    deletes.check(objects, Capability::ReadAfterDelete)?;
    Ok(u32::try_from(left.len()).unwrap_or(u32::MAX).max(failed))
}

struct Test<'a> {
    objects: &'a Objects,
    writes: Tally,
    reads: Tally,
    deletes: Tally,
    ordered: bool,
    offset_exact: bool,
}

impl Test<'_> {
    /// Writes one object, reads it, and lists it: with all others, and after the one before it.
    async fn write(&mut self, number: u32) -> Result<(), ProbeError> {
        let name = self.name(number);
        let bytes = Bytes::from(format!("{name}\n"));
        self.objects.write(&name, bytes.clone()).await?;
        let read = self.objects.read(&name).await?;
        self.reads.test(read == Some(bytes), || format!("'{name}' does not read as it was written"));
        self.list_all(number + 1).await?;
        self.list_after(number, number + 1).await
    }

    /// Writes the objects from `from` to below `to`, and lists them: all, and from the middle.
    async fn write_many(&mut self, from: u32, to: u32) -> Result<(), ProbeError> {
        let objects = self.objects;
        let writes = (from..to).map(|number| {
            let name = self.name(number);
            async move { objects.write(&name, Bytes::from(format!("{name}\n"))).await }
        });
        let writes: Vec<_> = writes.collect();
        let () = futures::stream::iter(writes).buffer_unordered(limits::PROBE_PARALLEL_MAX).try_collect().await?;
        self.list_all(to).await?;
        self.list_after(to / 2, to).await
    }

    /// Deletes one object; a read does not find it, and a LIST shows neither it nor those deleted before.
    async fn delete(&mut self, number: u32, to: u32) -> Result<(), ProbeError> {
        let name = self.name(number);
        self.objects.delete(&name).await?;
        let read = self.objects.read(&name).await?;
        self.deletes.test(read.is_none(), || format!("'{name}' is read after it was deleted"));
        let shown = self.list(None).await?;
        let expected = self.names(number + 1, to);
        self.deletes.test(shown.is_subset(&expected), || format!("a LIST shows '{}' after it was deleted", first_of(&shown, &expected)));
        self.writes.test(expected.is_subset(&shown), || format!("a LIST lacks '{}'", first_of(&expected, &shown)));
        Ok(())
    }

    /// A LIST shows all objects below `to`.
    async fn list_all(&mut self, to: u32) -> Result<(), ProbeError> {
        let shown = self.list(None).await?;
        let expected = self.names(0, to);
        self.writes.test(expected.is_subset(&shown), || format!("a LIST lacks '{}', which had been written", first_of(&expected, &shown)));
        Ok(())
    }

    /// A LIST after the object before `from` shows those from `from` to below `to`.
    async fn list_after(&mut self, from: u32, to: u32) -> Result<(), ProbeError> {
        let offset = from.checked_sub(1).map_or_else(|| self.objects.before(KIND), |before| self.name(before));
        let shown = self.list(Some(&offset)).await?;
        let expected = self.names(from, to);
        self.offset_exact &= shown.is_subset(&expected);
        let lacks = || format!("a LIST after '{offset}' lacks '{}', which had been written", first_of(&expected, &shown));
        self.writes.test(expected.is_subset(&shown), lacks);
        Ok(())
    }

    async fn list(&mut self, after: Option<&str>) -> Result<BTreeSet<String>, ProbeError> {
        let Shown { mut names, ordered } = self.objects.list(after).await?;
        self.ordered &= ordered;
        let kind = self.objects.before(KIND);
        names.retain(|name| name.starts_with(&kind));
        Ok(names)
    }

    fn name(&self, number: u32) -> String {
        self.objects.name(KIND, number)
    }

    fn names(&self, from: u32, to: u32) -> BTreeSet<String> {
        (from..to).map(|number| self.name(number)).collect()
    }
}

/// The first name that is in `all` and not in `some`.
fn first_of<'a>(all: &'a BTreeSet<String>, some: &'a BTreeSet<String>) -> &'a str {
    all.difference(some).next().map_or("", String::as_str)
}
