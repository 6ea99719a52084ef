//! The command line of the model: explores the scenarios of a world, prints what it saw, and the trace of what is wrong.
//!
//! Exit codes: 0 all is well and exhausted, 1 something is wrong, 2 wrong usage, 3 all is well up to the cap.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Instant;

use tessera_model::explore::{End, Limits};
use tessera_model::guard::{Guard, Guards};
use tessera_model::scenario::{self, Scenario};

const HELP: &str = "\
Explores the protocols of the design as small worlds, exhaustively.

Usage: tessera-model [OPTIONS] WORLD...

Arguments:
  WORLD                a world (all its scenarios), WORLD/SCENARIO, 'all', or 'ci' (those of the tests)

Options:
  --max-states N       stop a scenario after N states [default: 50000000; about 40 to 250 bytes each]
  --without GUARD      take a guard away; may be given several times
  --state              print the state at the end of a trace
  --list               list the scenarios and the guards
  --help               print this

Exit codes: 0 exhausted, all is well; 1 something is wrong; 2 wrong usage; 3 all is well up to the cap.
Progress goes to the terminal; there is none in a pipe.
";

const STATES_MAX: usize = 50_000_000;

struct Options {
    scenarios: Vec<Scenario>,
    guards: Guards,
    limits: Limits,
    state: bool,
}

enum Command {
    Help,
    List,
    Explore(Options),
}

/// What was seen of one scenario, as an exit code.
const EXHAUSTED: u8 = 0;
const BROKEN: u8 = 1;
const USAGE: u8 = 2;
const CAPPED: u8 = 3;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match parse(&arguments) {
        Ok(Command::Help) => io::stdout().write_all(HELP.as_bytes()).map(|()| EXHAUSTED),
        Ok(Command::List) => list().map(|()| EXHAUSTED),
        Ok(Command::Explore(options)) => explore_all(&options),
        Err(message) => writeln!(io::stderr(), "tessera-model: {message}\n\n{HELP}").map(|()| USAGE),
    };
    // A reader that went away is no failure of ours, and there is nobody to tell.
    ExitCode::from(done.unwrap_or(EXHAUSTED))
}

fn parse(arguments: &[String]) -> Result<Command, String> {
    let (mut names, mut without) = (Vec::new(), Vec::new());
    let mut options = Options { scenarios: Vec::new(), guards: Guards::default(), limits: Limits { states_max: STATES_MAX }, state: false };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let (name, inline) = argument.split_once('=').map_or((argument.as_str(), None), |(name, value)| (name, Some(value.to_owned())));
        let mut value = || inline.clone().or_else(|| arguments.next().cloned()).ok_or_else(|| format!("{name} needs a value"));
        match name {
            "--help" | "-h" => return Ok(Command::Help),
            "--list" => return Ok(Command::List),
            "--state" => options.state = true,
            "--max-states" => {
                let number = value()?;
                let states_max = number.parse().ok().filter(|states: &usize| (1..u32::MAX as usize).contains(states));
                options.limits.states_max = states_max.ok_or_else(|| format!("'{number}' is no number of states"))?;
            }
            "--without" => without.push(value()?.parse::<Guard>().map_err(|error| error.to_string())?),
            _ if name.starts_with('-') => return Err(format!("there is no option {name}")),
            _ => names.push(argument.clone()),
        }
    }
    if names.is_empty() {
        return Err("which world? --list shows them".to_owned());
    }
    options.guards = Guards::without(&without);
    for name in &names {
        let named = |scenario: &Scenario| match name.as_str() {
            "all" => true,
            "ci" => scenario.for_ci,
            name => name == scenario.world || name == scenario.path(),
        };
        let found: Vec<Scenario> = scenario::all().into_iter().filter(named).collect();
        if found.is_empty() {
            return Err(format!("there is no world '{name}': --list shows them"));
        }
        options.scenarios.extend(found);
    }
    Ok(Command::Explore(options))
}

fn list() -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "Scenarios (* in the tests):")?;
    for scenario in scenario::all() {
        let mark = if scenario.for_ci { '*' } else { ' ' };
        writeln!(out, "{mark} {:28} {}", scenario.path(), scenario.about)?;
    }
    writeln!(out, "\nGuards, with the section of the design:")?;
    for guard in Guard::ALL {
        writeln!(out, "  {:30} {}", guard.name(), guard.rule())?;
    }
    Ok(())
}

/// Explores one scenario after the other; the worst exit code of all.
fn explore_all(options: &Options) -> io::Result<u8> {
    let mut worst = EXHAUSTED;
    for scenario in &options.scenarios {
        let code = explore(scenario, options)?;
        worst = match (worst, code) {
            (BROKEN, _) | (_, BROKEN) => BROKEN,
            (worst, code) => worst.max(code),
        };
    }
    Ok(worst)
}

#[expect(clippy::disallowed_methods, reason = "the time is shown to a person and decides nothing; this crate has no dependencies")]
fn explore(scenario: &Scenario, options: &Options) -> io::Result<u8> {
    let started = Instant::now();
    let path = scenario.path();
    let terminal = io::stderr().is_terminal();
    let mut progress = |states: usize| {
        if terminal {
            // Nobody needs to know that progress cannot be shown.
            let _ = write!(io::stderr(), "\r{path}: {states} states, {:.0} s", started.elapsed().as_secs_f64());
        }
    };
    let outcome = scenario.run(options.guards, options.limits, &mut progress);
    if terminal {
        write!(io::stderr(), "\r\x1b[K")?;
    }
    let (word, code) = match &outcome.end {
        End::Exhausted => ("exhausted", EXHAUSTED),
        End::Capped => ("capped", CAPPED),
        End::Broken(_) => ("BROKEN", BROKEN),
    };
    let (states, steps, seconds) = (outcome.states, outcome.steps, started.elapsed().as_secs_f64());
    let mut out = io::stdout().lock();
    writeln!(out, "{path:28} {word:9} {states:>10} states {steps:>11} steps {seconds:>7.1} s")?;
    if let Some(trace) = outcome.trace() {
        write!(out, "{trace}")?;
        if options.state {
            writeln!(out, "  state: {}", trace.last)?;
        }
    }
    out.flush()?;
    Ok(code)
}
