//! All that happens in a run, in order: a digest of it, and its last lines for whoever has to find out why a run failed.

use std::collections::VecDeque;
use std::fmt;
use std::hash::Hasher;
use std::sync::Mutex;
use std::time::Duration;

use tessera_manifest::env::Moment;

/// Lines that are kept, unless all are.
const KEPT: usize = 300;

/// What happened.
#[derive(Debug)]
pub(super) struct Trace {
    begin: Moment,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    digest: u64,
    events: u64,
    lines: VecDeque<String>,
    kept_max: usize,
    failure: Option<String>,
}

impl Trace {
    /// Begins now. `whole` keeps every line.
    pub(super) fn new(whole: bool) -> Self {
        let kept_max = if whole { usize::MAX } else { KEPT };
        let inner = Inner { digest: 0xcbf2_9ce4_8422_2325, events: 0, lines: VecDeque::new(), kept_max, failure: None };
        Self { begin: Moment::now(), inner: Mutex::new(inner) }
    }

    /// Virtual time since the run began.
    pub(super) fn elapsed(&self) -> Duration {
        Moment::now().since(self.begin)
    }

    /// Something happened; the answer is its number.
    pub(super) fn note(&self, text: fmt::Arguments<'_>) -> u64 {
        let line = format!("{:>10} {text}", self.elapsed().as_micros());
        let mut inner = self.inner.lock().unwrap();
        let mut hasher = Fnv(inner.digest);
        hasher.write(line.as_bytes());
        inner.digest = hasher.finish();
        inner.events += 1;
        if inner.lines.len() >= inner.kept_max {
            inner.lines.pop_front();
        }
        inner.lines.push_back(line);
        inner.events
    }

    /// The number of the last event.
    pub(super) fn events(&self) -> u64 {
        self.inner.lock().unwrap().events
    }

    pub(super) fn digest(&self) -> u64 {
        self.inner.lock().unwrap().digest
    }

    /// Something is wrong; the first is what counts.
    pub(super) fn fail(&self, what: String) {
        self.note(format_args!("FAILED {what}"));
        self.inner.lock().unwrap().failure.get_or_insert(what);
    }

    pub(super) fn failure(&self) -> Option<String> {
        self.inner.lock().unwrap().failure.clone()
    }

    /// The lines that are kept.
    pub(super) fn text(&self) -> String {
        let inner = self.inner.lock().unwrap();
        inner.lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

/// FNV-1a, which no release of anything changes.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
