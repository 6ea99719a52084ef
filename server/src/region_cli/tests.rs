//! Tests of what may be typed after `tessera region`.

use clap::Parser;
use tessera_manifest::id::{Nonce, RegionId, RegionNumber, TableId};

use super::args::{RegionArgs, Verb};
use super::routes::Routes;
use super::view::{Found, ListView, ShowView};
use crate::cli::verb::View;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: RegionArgs,
}

fn parse(words: &[&str]) -> Result<Verb, clap::Error> {
    Line::try_parse_from([&["region"], words].concat()).map(|line| line.args.verb)
}

const ID: &str = "00000000000000000000000000000abc";

#[test]
fn a_log_is_named_by_its_id_and_given_up_with_yes_only() {
    let Verb::AbandonWal(args) = parse(&["abandon-wal", "home", "1024/7", "--wal", ID]).unwrap() else { panic!("abandon-wal") };
    assert_eq!((args.region.to_string().as_str(), args.wal, args.yes, args.json), ("1024/7", Nonce(0xabc), false, false));
    assert!(!args.force);
    let Verb::AbandonWal(args) = parse(&["abandon-wal", "home", "1024/7", "--wal", ID, "--yes", "--force", "--json"]).unwrap() else {
        panic!("abandon-wal")
    };
    assert!(args.yes && args.force && args.json);
}

#[test]
fn a_log_is_never_given_up_by_a_short_name_or_by_none() {
    for words in [
        &["abandon-wal", "home", "1024/7"][..],
        &["abandon-wal", "home", "1024/7", "--wal", "abc"],
        &["abandon-wal", "home", "1024/7", "--wal"],
        &["abandon-wal", "home", "--wal", ID],
        &["abandon-wal", "home", "1024", "--wal", ID],
    ] {
        assert_eq!(parse(words).unwrap_err().exit_code(), 2, "{words:?}");
    }
}

#[test]
fn routes_that_were_not_looked_up_are_unknown() {
    let found = || Found::unreadable(RegionId::new(TableId(1024), RegionNumber(7)), "broken".to_owned(), &Routes::default());
    let show = |routes: Option<&str>| ShowView { region: found(), routes: routes.map(str::to_owned) }.text();
    let list = |routes: Option<&str>| ListView { regions: vec![found()], routes: routes.map(str::to_owned) }.text();
    let text = show(None);
    assert!(text.contains("not read\n") && text.contains("not written\n") && !list(None).contains("unknown"), "{text}");
    let text = show(Some("the server runs"));
    assert!(!text.contains("not read") && !text.contains("not written"), "{text}");
    assert_eq!(text.matches("unknown\n").count(), 2, "{text}");
    let text = list(Some("the server runs"));
    assert_eq!(text.matches("unknown").count(), 2, "{text}");
}
