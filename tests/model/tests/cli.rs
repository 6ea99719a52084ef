//! The command line: what it prints, and its exit codes.

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tessera-model")).args(arguments).output().expect("the binary of this package runs")
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("text is printed")
}

#[test]
fn a_sound_world_exits_with_zero_and_says_nothing_on_stderr() {
    let output = run(&["segments"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).starts_with("segments/sweep") && stdout(&output).contains("exhausted"), "{}", stdout(&output));
    assert!(output.stderr.is_empty(), "quiet in a pipe");
}

#[test]
fn a_broken_world_exits_with_one_and_prints_the_trace() {
    let output = run(&["take-over/three-nodes", "--without", "log-sealed-before-replay", "--state"]);
    assert_eq!(output.status.code(), Some(1));
    for text in ["BROKEN", "an acknowledged row is not served after a take-over, after 4 steps:", "   1. ", "state: State {"] {
        assert!(stdout(&output).contains(text), "{}", stdout(&output));
    }
}

#[test]
fn a_cap_exits_with_three() {
    let output = run(&["write-path/fence", "--max-states=100"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stdout(&output).contains("capped"), "{}", stdout(&output));
}

#[test]
fn wrong_usage_exits_with_two_and_says_why() {
    for (arguments, why) in [
        (&["--without", "nothing", "segments"][..], "there is no guard 'nothing'"),
        (&["no-world"], "there is no world 'no-world'"),
        (&["--max-states", "0", "segments"], "'0' is no number of states"),
        (&["--max-states"], "--max-states needs a value"),
        (&["--fast", "segments"], "there is no option --fast"),
        (&[], "which world?"),
    ] {
        let output = run(arguments);
        let stderr = std::str::from_utf8(&output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr.contains(why), "{arguments:?}: {stderr}");
    }
}

#[test]
fn help_and_list_name_what_there_is() {
    assert!(stdout(&run(&["--help"])).contains("Exit codes"));
    let list = run(&["--list"]);
    for text in ["* segments/sweep", "second-pass"] {
        assert!(stdout(&list).contains(text), "{}", stdout(&list));
    }
}
