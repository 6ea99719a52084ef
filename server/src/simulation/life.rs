//! What a process meets at its requests to the object store, the metadata, the log and the regions.
//!
//! Invariants:
//! - Every draw comes from the process' own generator, in the order of its requests.
//! - A dead process gets no answer any more; its calls wait for ever. What it had sent may still arrive.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tessera_manifest::env::sleep;
use tessera_metaclient::testing::Random;
use tokio::sync::Notify;

use super::rules::pick;
use super::trace::Trace;

/// What is late arrives within so many milliseconds.
pub(super) const LATEST_MS: u64 = 2_000;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is done and answered.
    Done,
    /// It is not done, and answered with an error.
    Refused,
    /// It is done, and the answer is an error.
    Lost,
    /// The answer is an error, and it is done after this time, whether the process lives or not.
    Late(Duration),
    /// It is done twice, the second time with the answer.
    Repeated,
}

/// How often requests go wrong: one in so many, never if zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Odds {
    /// Faults of every kind.
    pub(super) fault: u64,
    /// The process dies at the request.
    pub(super) death: u64,
    /// Requests that take long.
    pub(super) slow: u64,
    /// The region refuses a step of a repartition before the decision, for good.
    pub(super) refusal: u64,
    /// Creates that the store refuses without an object being there.
    pub(super) conflict: u64,
    /// Milliseconds that a step behind the decision waits at most, so that regions stay staged for a while.
    pub(super) linger_ms: u64,
}

impl Odds {
    /// Nothing goes wrong.
    pub(super) const FINE: Self = Self { fault: 0, death: 0, slow: 0, refusal: 0, conflict: 0, linger_ms: 0 };

    /// Those of a life in which little goes wrong.
    pub(super) fn calm(random: &mut Random) -> Self {
        let (fault, slow) = (*pick(random, &[0, 0, 0, 250]), *pick(random, &[0, 30, 100]));
        Self { fault, slow, ..Self::FINE }
    }

    /// Those of one life.
    pub(super) fn draw(random: &mut Random) -> Self {
        Self {
            fault: *pick(random, &[0, 0, 25, 60, 120, 250]),
            death: *pick(random, &[0, 0, 80, 200, 500]),
            slow: *pick(random, &[0, 10, 30, 100]),
            refusal: *pick(random, &[0, 0, 0, 8]),
            conflict: *pick(random, &[0, 0, 100]),
            linger_ms: *pick(random, &[0, 0, 0, 150]),
        }
    }
}

/// One life of a process.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) number: u64,
    pub(super) trace: Arc<Trace>,
    odds: Odds,
    random: Mutex<Random>,
    dead: AtomicBool,
    /// Clients no longer talk to it.
    left: AtomicBool,
    changed: Notify,
}

impl Life {
    pub(super) fn new(number: u64, trace: Arc<Trace>, odds: Odds, random: Random) -> Arc<Self> {
        let (dead, left, changed) = (AtomicBool::new(false), AtomicBool::new(false), Notify::new());
        Arc::new(Self { number, trace, odds, random: Mutex::new(random), dead, left, changed })
    }

    pub(super) fn note(&self, text: std::fmt::Arguments<'_>) {
        self.trace.note(format_args!("p{} {text}", self.number));
    }

    /// Ends the process where it stands.
    pub(super) fn kill(&self) {
        if !self.dead.swap(true, Ordering::SeqCst) {
            self.note(format_args!("dies"));
        }
        self.leave();
    }

    /// Clients turn away from it, as when another one took its place; it goes on.
    pub(super) fn leave(&self) {
        self.left.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Waits until clients are to turn away from it.
    pub(super) async fn gone(&self) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.left.load(Ordering::SeqCst) {
                return;
            }
            changed.await;
        }
    }

    /// A number below `end`.
    pub(super) fn below(&self, end: u64) -> u64 {
        self.random.lock().unwrap().below(end)
    }

    /// True one time in `out_of`; never if that is zero.
    pub(super) fn chance(&self, out_of: u64) -> bool {
        out_of > 0 && self.random.lock().unwrap().chance(1, out_of)
    }

    /// Whether a region refuses for good.
    pub(super) fn refuses(&self) -> bool {
        self.chance(self.odds.refusal)
    }

    /// Whether a create is refused though nothing is there.
    pub(super) fn conflicts(&self) -> bool {
        self.chance(self.odds.conflict)
    }

    /// Goes on only if the process lives.
    async fn alive(&self) {
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits before a step behind the decision.
    pub(super) async fn linger(&self) {
        if self.odds.linger_ms > 0 {
            sleep(Duration::from_millis(self.below(self.odds.linger_ms))).await;
        }
    }

    fn latency(&self) -> Duration {
        let mut random = self.random.lock().unwrap();
        let slow = self.odds.slow > 0 && random.chance(1, self.odds.slow);
        let micros = match random.below(4) {
            _ if slow => 1_000 * random.below(300),
            0 | 1 => 0,
            _ => random.below(3_000),
        };
        Duration::from_micros(micros)
    }

    /// Waits as long as the request is on its way, and says what becomes of it.
    pub(super) async fn send(&self, verb: &'static str, what: &str) -> Fate {
        self.alive().await;
        let (latency, fate) = (self.latency(), self.draw());
        let dies = self.chance(self.odds.death);
        // What was sent arrives all the same, sometimes.
        let arrives = self.below(3) == 0;
        if !latency.is_zero() {
            sleep(latency).await;
        }
        if dies {
            self.kill();
        }
        if self.is_dead() && !arrives {
            self.alive().await;
        }
        self.note(format_args!("{verb} {what} {fate:?}"));
        fate
    }

    /// Waits as long as the answer is on its way.
    pub(super) async fn receive(&self) {
        let latency = self.latency();
        if !latency.is_zero() {
            sleep(latency).await;
        }
        self.alive().await;
    }

    fn draw(&self) -> Fate {
        if !self.chance(self.odds.fault) {
            return Fate::Done;
        }
        match self.below(6) {
            0 | 1 => Fate::Refused,
            2 | 3 => Fate::Lost,
            4 => Fate::Late(Duration::from_millis(1 + self.below(LATEST_MS))),
            _ => Fate::Repeated,
        }
    }
}
