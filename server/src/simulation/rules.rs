//! Random partition rules, as statements.

use tessera_manifest::schema::Schema;
use tessera_metaclient::testing::Random;

use super::possible::Mode;
use super::world::{TABLE, World};
use crate::query::rules::{parse, text, validate};

/// One of several, each as likely as the others.
pub(super) fn pick<'a, T>(random: &mut Random, of: &'a [T]) -> &'a T {
    &of[usize::try_from(random.below(of.len() as u64)).unwrap()]
}

/// A condition on a column: one side of a cut is it, the other one its negation.
fn cut(random: &mut Random, columns: &[&str]) -> (String, String) {
    match *pick(random, columns) {
        "host" => {
            let bound = pick(random, &["b", "golf", "h", "m", "tango", "x"]);
            match random.below(3) {
                0 => (format!("host IN ('{bound}', 'mike')"), format!("host NOT IN ('{bound}', 'mike') OR host IS NULL")),
                _ => (format!("host < '{bound}'"), format!("host >= '{bound}'")),
            }
        }
        column => {
            let bound = random.below(80);
            (format!("{column} < {bound}"), format!("{column} >= {bound}"))
        }
    }
}

/// Rules that partition, by cuts of these columns, and the columns that they name.
fn partition(random: &mut Random, columns: &[&str]) -> Vec<String> {
    let mut rules: Vec<String> = Vec::new();
    for _ in 0..random.below(4) {
        let (low, high) = cut(random, columns);
        if rules.is_empty() {
            rules = vec![low, high];
            continue;
        }
        let at = usize::try_from(random.below(rules.len() as u64)).unwrap();
        let whole = rules.remove(at);
        rules.extend([format!("({whole}) AND ({low})"), format!("({whole}) AND ({high})")]);
    }
    rules
}

/// The columns that may be in rules.
fn columns(mode: Mode) -> &'static [&'static str] {
    if mode == Mode::Append { &["host", "ts", "v"] } else { &["host", "ts"] }
}

fn named<'a>(rules: &[String], columns: &[&'a str]) -> Vec<&'a str> {
    columns.iter().copied().filter(|column| rules.iter().any(|rule| rule.contains(&format!("{column} ")))).collect()
}

/// `PARTITION ON COLUMNS (...) (...)`.
pub(super) fn partition_on(random: &mut Random, mode: Mode) -> String {
    let rules = partition(random, columns(mode));
    let columns = named(&rules, columns(mode));
    if rules.is_empty() || columns.is_empty() {
        return "PARTITION ON COLUMNS () ()".to_owned();
    }
    format!("PARTITION ON COLUMNS ({}) ({})", columns.join(", "), rules.join(", "))
}

/// How the table is partitioned.
pub(super) struct Present {
    pub(super) rules: Vec<String>,
    /// The columns that rules may name.
    pub(super) columns: Vec<String>,
    schema: Schema,
}

/// How the table is partitioned, if it can be read.
pub(super) async fn present(world: &World) -> Option<Present> {
    let info = world.catalog.table_by_id(TABLE).await.ok()?;
    let schema: &Schema = &info.schema;
    let columns = info.partition_columns.iter().filter_map(|id| Some(schema.column(*id)?.name.clone())).collect();
    let write = world.routes().await.write;
    let rules = write.routes.iter().map(|route| text(&route.rule, schema)).collect();
    Some(Present { rules, columns, schema: info.schema })
}

/// A rule in the place of which two come, and these two.
pub(super) struct Split {
    whole: String,
    pub(super) halves: [String; 2],
}

/// A cut of one of the rules, mostly one that leaves neither half without rows.
pub(super) fn split(random: &mut Random, present: &Present) -> Split {
    let columns: Vec<&str> = present.columns.iter().map(String::as_str).collect();
    let mut tries = 8;
    loop {
        let (whole, (low, high)) = (pick(random, &present.rules).clone(), cut(random, &columns));
        let halves = [format!("({whole}) AND ({low})"), format!("({whole}) AND ({high})")];
        let rules: Vec<_> = halves.iter().map(|half| parse(half, &present.schema).unwrap()).collect();
        tries -= 1;
        if tries == 0 || validate(&rules, &present.schema).is_ok() {
            return Split { whole, halves };
        }
    }
}

impl Split {
    /// There.
    pub(super) fn text(&self) -> String {
        format!("SPLIT PARTITION ({}) INTO ({}, {})", self.whole, self.halves[0], self.halves[1])
    }
}

/// A change of the table's partitions; nothing if the table cannot be read.
pub(super) async fn change(world: &World, random: &mut Random) -> Option<String> {
    let present = present(world).await?;
    let rules = &present.rules;
    let how = match random.below(8) {
        0 => " WITH (wait = false)",
        1 => " WITH (timeout = '300ms')",
        2 | 3 => " WITH (localize = false)",
        _ => "",
    };
    let change = match random.below(6) {
        0 | 1 if !present.columns.is_empty() => split(random, &present).text(),
        2 | 3 if rules.len() > 1 => {
            let first = usize::try_from(random.below(rules.len() as u64)).unwrap();
            let second = (first + 1) % rules.len();
            format!("MERGE PARTITION ({}, {})", rules[first], rules[second])
        }
        _ => partition_on(random, world.mode),
    };
    Some(format!("ALTER TABLE t {change}{how}"))
}
